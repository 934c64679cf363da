// Where a step of a row lies: n, the state before it, the steps that a row has.

namespace rnn_gpu {

// One row of the batch, and where its numbers are. `sorted` is -1 for a row that is none; it has no steps.
struct Row {
  int sorted = -1;  // its number, the longest first
  int caller = 0;   // its number in the caller's arrays
  int end = 0;      // steps that it has: 0 <= t < end
};

template <class P> __device__ __forceinline__ Row row_of(const P& p, int sorted) {
  Row row;
  if (sorted < p.rows) {
    row.sorted = sorted;
    row.caller = p.order ? p.order[sorted] : sorted;
    row.end = p.ends ? p.ends[sorted] : p.steps;
  }
  return row;
}

// n of step t's first row.
template <class P> __device__ __forceinline__ long long start_of(const P& p, int t) {
  return p.starts ? p.starts[t] : (long long)t * p.rows;
}

// Whether step t is the row's first, before which its state is the initial one.
template <class P> __device__ __forceinline__ bool is_first(const P& p, const Row& row, int t) {
  return t == (p.reverse ? row.end - 1 : 0);
}

template <class P> __device__ __forceinline__ bool is_reset(const P& p, const Row& row, int t) {
  return p.resets && p.resets[(long long)t * p.rows + row.caller];
}

// A number of state k in an array [n_state, B, H].
template <class P> __device__ __forceinline__ long long at_state(const P& p, const Row& row, int k, int unit) {
  return ((long long)k * p.rows + row.caller) * p.hidden + unit;
}

// State k before step t, not yet reset.
template <int n_state, class P>
__device__ __forceinline__ auto state_before(const P& p, const Row& row, int t, int k, int unit) {
  using Real = typename WorkingOf<typename P::Stored>::type;
  if (is_first(p, row, t)) return p.initial ? p.initial[at_state(p, row, k, unit)] : Real(0);
  const long long n = start_of(p, p.reverse ? t + 1 : t - 1) + row.sorted;
  return p.history[(n * n_state + k) * p.hidden + unit];
}

// The number of rows that have step t: the first of the sorted ones.
template <class P> __device__ __forceinline__ int rows_at(const P& p, int t) {
  return p.starts ? int(p.starts[t + 1] - p.starts[t]) : p.rows;
}

// The step that n belongs to.
template <class P> __device__ __forceinline__ int step_of(const P& p, long long n) {
  if (!p.starts) return int(n / p.rows);
  int low = 0, high = p.steps;  // starts[low] <= n < starts[high]
  while (high - low > 1) {
    const int middle = low + (high - low) / 2;
    (p.starts[middle] <= n ? low : high) = middle;
  }
  return low;
}

// The elements that a thread of an elementwise kernel owns: from the first, each `stride` further on.
__device__ __forceinline__ long long first_element() {
  return (long long)arch::block_index() * arch::n_threads() + arch::thread_index();
}
__device__ __forceinline__ long long stride() { return (long long)arch::n_blocks() * arch::n_threads(); }

// The steps of a tile whose longest row has `end`, in the order of the recurrence: step i of `count` is t(i).
struct TileSteps {
  int first, direction, count;
  __device__ __forceinline__ int t(int i) const { return first + direction * i; }
};

template <class P> __device__ __forceinline__ TileSteps steps_of(const P& p, int end, bool backward) {
  const int stop = end < p.end ? end : p.end;
  const int count = stop > p.begin ? stop - p.begin : 0;
  const bool down = (p.reverse != 0) != backward;
  return {down ? stop - 1 : p.begin, down ? -1 : 1, count};
}

}  // namespace rnn_gpu
