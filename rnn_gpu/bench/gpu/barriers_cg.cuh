// The barrier of CUDA's own library, to compare with.
#include <cooperative_groups.h>

extern "C" __global__ void __launch_bounds__(256, 1) rnn_gpu_barrier_cg_grid(long long count) {
  auto grid = cooperative_groups::this_grid();
  for (long long i = 0; i < count; ++i) grid.sync();
}
