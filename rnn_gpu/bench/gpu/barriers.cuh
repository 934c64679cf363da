// What the teams' exchanges cost by themselves: kernels that do `count` of them, of 16 bytes a block where blocks of a
// cluster exchange, and nothing else.
//
// Owner:      a block is one of RNN_GPU_BLOCKS, or of a cluster; a thread owns nothing.
// Shared:     the team's buffers, which nobody writes.
// Registers:  the count.
// Barrier:    the one measured.
// Limits:     256 threads; grid: all blocks must be running at once.

namespace rnn_gpu {
namespace barriers {

struct Arguments {
  long long count;
  float* exchange;         // grid: [2, 4], zeros
  arch::uint32* counters;  // grid: [1], zero
};

template <int n> struct Traits {
  static constexpr int rows = 1, chunk = 1, threads = 256, blocks = n, hidden = 4 * n;
};

template <class Team> __device__ __forceinline__ void pass(const Arguments& p) {
  Team team(p, arch::shared_memory());
  for (long long i = 0; i < p.count; ++i) {
    team.template arrive<1, 4>(team.rank() * 4);
    team.wait();
  }
}

}  // namespace barriers
}  // namespace rnn_gpu

RNN_GPU_KERNEL(rnn_gpu_barrier_block, 256, rnn_gpu::barriers::Arguments) {
  rnn_gpu::barriers::pass<rnn_gpu::BlockTeam<float, rnn_gpu::barriers::Traits<1>, 4>>(p);
}
RNN_GPU_KERNEL(rnn_gpu_barrier_grid, 256, rnn_gpu::barriers::Arguments) {
  rnn_gpu::barriers::pass<rnn_gpu::GridTeam<float, rnn_gpu::barriers::Traits<RNN_GPU_BLOCKS>, 4>>(p);
}
#ifdef RNN_GPU_CLUSTERS
#define RNN_GPU_CLUSTER_BARRIER(n)                                                                       \
  RNN_GPU_CLUSTER_KERNEL(rnn_gpu_barrier_cluster_##n, 256, n, rnn_gpu::barriers::Arguments) {            \
    rnn_gpu::barriers::pass<rnn_gpu::ClusterTeam<float, rnn_gpu::barriers::Traits<n>, 4 * n>>(p);        \
  }
RNN_GPU_CLUSTER_BARRIER(2)
RNN_GPU_CLUSTER_BARRIER(4)
RNN_GPU_CLUSTER_BARRIER(8)
RNN_GPU_CLUSTER_BARRIER(16)
#endif
