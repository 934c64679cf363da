// What is read of global memory is brought into the L2 cache before it is loaded: loads begin one step ahead, and one that
// waits for memory may take longer than that.

namespace rnn_gpu {

// Steps beyond the next, which is being loaded, whose numbers are asked for; with lengths, 1: no other's place is known.
template <class Traits> constexpr int further = Traits::lengths ? 1 : 3;

// Bytes of a small array that are asked for at once, before the first step, at most.
constexpr long long prefetched_at_once = 1 << 20;

// Ask for a row's numbers of a unit in the step of an array [n, k, H] that begins there.
template <int k, class T>
__device__ __forceinline__ void prefetch(const T* step, const Row& row, int hidden, int unit) {
  const T* const own = element<k>(step, row.sorted, hidden, unit);
#pragma unroll
  for (int j = 0; j < k; ++j) arch::prefetch(own + j * hidden);
}

// What each step reads only some bytes of.
template <class Traits, class P> __device__ __forceinline__ void prefetch_small(const P& p) {
  if (arch::block_index() > 0 || arch::thread_index() > 0) return;
  const auto ask = [](const void* array, long long bytes) {
    arch::prefetch_array(array, int(bytes < prefetched_at_once ? bytes : prefetched_at_once));
  };
  if constexpr (Traits::resets) ask(p.resets, (long long)p.steps * p.rows);
  if constexpr (Traits::lengths) ask(p.starts, (long long)sizeof(*p.starts) * (p.steps + 1));
}

}  // namespace rnn_gpu
