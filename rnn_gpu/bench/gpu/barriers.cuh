// What the teams' exchanges cost by themselves: kernels that do `count` of them, of 16 bytes a block where there are
// several, and nothing else.
//
// Owner:      a block is one of RNN_GPU_BLOCKS, or of a cluster; of each block of a grid four threads own a number each.
// Shared:     the team's buffers.
// Registers:  the count.
// Barrier:    the one measured.
// Limits:     256 threads; grid: all blocks must be running at once.

namespace rnn_gpu {
namespace barriers {

struct Arguments {
  long long count;
  float* exchange;         // grid: [slots, 4 * RNN_GPU_BLOCKS], zeros
  arch::uint32* counters;  // grid: [1], zero
};

template <int n> struct Traits {
  static constexpr int rows = 1, chunk = 1, threads = 256, blocks = n, hidden = 4 * n, slots = RNN_GPU_SLOTS;
};

template <class Team, int columns> __device__ __forceinline__ void pass(const Arguments& p) {
  Team team(p, arch::shared_memory());
  const int column = team.rank() * 4 + arch::thread_index();
  for (long long i = 0; i < p.count; ++i) {
    if (Team::waits_for_numbers && arch::thread_index() < 4) team.publish(0, column, 1.0f);
    team.template arrive<1, 4>(team.rank() * 4);
    team.wait();
    if constexpr (Team::waits_for_numbers) {
      team.template chunk<columns, 4>(0);
      if (arch::thread_index() < 4) team.clear(0, column);
    }
  }
}

}  // namespace barriers
}  // namespace rnn_gpu

RNN_GPU_KERNEL(rnn_gpu_barrier_block, 256, rnn_gpu::barriers::Arguments) {
  rnn_gpu::barriers::pass<rnn_gpu::BlockTeam<float, rnn_gpu::barriers::Traits<1>, 4>, 4>(p);
}
RNN_GPU_KERNEL(rnn_gpu_barrier_grid, 256, rnn_gpu::barriers::Arguments) {
  constexpr int columns = 4 * RNN_GPU_BLOCKS;
  rnn_gpu::barriers::pass<rnn_gpu::GridTeam<float, rnn_gpu::barriers::Traits<RNN_GPU_BLOCKS>, columns>, columns>(p);
}
#ifdef RNN_GPU_CLUSTERS
#define RNN_GPU_CLUSTER_BARRIER(n)                                                                       \
  RNN_GPU_CLUSTER_KERNEL(rnn_gpu_barrier_cluster_##n, 256, n, rnn_gpu::barriers::Arguments) {            \
    rnn_gpu::barriers::pass<rnn_gpu::ClusterTeam<float, rnn_gpu::barriers::Traits<n>, 4 * n>, 4 * n>(p); \
  }
RNN_GPU_CLUSTER_BARRIER(2)
RNN_GPU_CLUSTER_BARRIER(4)
RNN_GPU_CLUSTER_BARRIER(8)
RNN_GPU_CLUSTER_BARRIER(16)
#endif
