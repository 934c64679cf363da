// What the teams' exchanges cost by themselves: kernels that do `count` of them, of 16 bytes a block where blocks
// exchange, and nothing else.
//
// Owner:      a block is one of RNN_GPU_BLOCKS, or of a cluster; of the grid's blocks four threads own a number each.
// Shared:     the team's buffers.
// Registers:  the count.
// Barrier:    the one measured.
// Limits:     256 threads; grid: all blocks must be running at once.

namespace rnn_gpu {
namespace barriers {

struct Arguments {
  long long count;
  void* exchange;          // grid: [slots, 4 * blocks] floats
  arch::uint32* counters;  // grid: [1], zero
  int slots, hidden;       // grid: hidden is 4 * blocks
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

using Grid = GridTeam<float, Traits<RNN_GPU_BLOCKS>, 4 * RNN_GPU_BLOCKS>;

// Exchanges of a grid, which wait for the numbers themselves, or for a barrier before they look for them.
template <bool after_barrier> __device__ __forceinline__ void exchange(const Arguments& p) {
  Grid team(p, arch::shared_memory());
  float value = 0;
  for (long long i = 0; i < p.count; ++i) {
    team.begin<1>(p);
    if (arch::thread_index() < 4) team.publish<4 * RNN_GPU_BLOCKS>(0, team.rank() * 4 + arch::thread_index(), value);
    if (after_barrier) team.meet(p);
    team.wait();
    value = team.chunk<4 * RNN_GPU_BLOCKS>(0)[arch::thread_index() % 4] + 1;  // nothing is published before it was read
  }
}

}  // namespace barriers
}  // namespace rnn_gpu

RNN_GPU_KERNEL(rnn_gpu_barrier_block, 256, rnn_gpu::barriers::Arguments) {
  rnn_gpu::barriers::pass<rnn_gpu::BlockTeam<float, rnn_gpu::barriers::Traits<1>, 4>>(p);
}
RNN_GPU_KERNEL(rnn_gpu_barrier_grid, 256, rnn_gpu::barriers::Arguments) {
  rnn_gpu::barriers::Grid team(p, rnn_gpu::arch::shared_memory());
  for (long long i = 0; i < p.count; ++i) team.meet(p);
}
RNN_GPU_KERNEL(rnn_gpu_barrier_grid_exchange, 256, rnn_gpu::barriers::Arguments) {
  rnn_gpu::barriers::exchange<false>(p);
}
RNN_GPU_KERNEL(rnn_gpu_barrier_grid_exchange_after_barrier, 256, rnn_gpu::barriers::Arguments) {
  rnn_gpu::barriers::exchange<true>(p);
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
