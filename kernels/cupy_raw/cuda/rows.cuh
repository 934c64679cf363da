// Where a step of a row lies: n, the state before it, the steps that a row has.

namespace rnn_gpu {

// One row of the batch, and where its numbers are. A row that is none has no steps.
struct Row {
  int sorted = -1;  // its number, the longest first; -1: there is none
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

// The same where a step may have 2^31 numbers and more: numbers of rows are multiplied in 64 bits.
struct WideRow {
  long long sorted, caller;
  int end;
  __device__ __forceinline__ explicit WideRow(const Row& row) : sorted(row.sorted), caller(row.caller), end(row.end) {}
};

// n of step t's first row.
template <class P> __device__ __forceinline__ long long start_of(const P& p, int t) {
  return p.starts ? p.starts[t] : (long long)t * p.rows;
}

// Whether step t is the row's first, before which its state is the initial one.
template <class P, class AnyRow> __device__ __forceinline__ bool is_first(const P& p, const AnyRow& row, int t) {
  return t == (p.reverse ? row.end - 1 : 0);
}

template <class P, class AnyRow> __device__ __forceinline__ bool is_reset(const P& p, const AnyRow& row, int t) {
  return p.resets && p.resets[(long long)t * p.rows + row.caller];
}

// A number of state k in an array [n_state, B, H].
template <class P, class AnyRow>
__device__ __forceinline__ long long at_state(const P& p, const AnyRow& row, int k, int unit) {
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
  return {down ? stop - 1 : p.begin, arch::kept(down ? -1 : 1), arch::kept(count)};
}

// A row of a tile; where the call has no lengths, all rows have all steps.
template <class Traits, class P> __device__ __forceinline__ Row tile_row(const P& p, int sorted) {
  if constexpr (Traits::lengths) return row_of(p, sorted);
  Row row;
  if (sorted < p.rows) {
    row.sorted = row.caller = sorted;
    row.end = p.steps;
  }
  return row;
}

// Whether a row has a step that its tile does.
template <class Traits> __device__ __forceinline__ bool has_step(const Row& row, int t) {
  if constexpr (Traits::lengths) return t < row.end;
  return row.sorted >= 0;
}

// n of the first row of the tile's steps, one after the other: of this one and of two after it, which are known ahead.
// Steps beyond the tile's are known as long as there are such, as a state before the first may belong to one.
template <class Traits> struct Walk {
  TileSteps steps;
  long long here, next, after;

  template <class P> __device__ __forceinline__ Walk(const P& p, const TileSteps& of_tile)
      : steps(of_tile), here(start(p, 0)), next(start(p, 1)), after(start(p, 2)) {}
  // To step i, from the one before it.
  template <class P> __device__ __forceinline__ void go_to(const P& p, int i) {
    here = next;
    next = after;
    if constexpr (Traits::lengths) after = start(p, i + 2);
    else after += (long long)steps.direction * p.rows;
  }

 private:
  template <class P> __device__ __forceinline__ long long start(const P& p, int i) const {
    const int t = steps.t(i);
    if constexpr (Traits::lengths) return t >= 0 && t < p.steps ? p.starts[t] : 0;
    return (long long)t * p.rows;
  }
};

// Where a step begins in an array with k numbers a row and unit, [n, k, H], as it goes from step to step: by the same way
// each time, where all rows have all steps. `rows_of_all`: also of a call with lengths, as in y.
template <class Traits, int k, class T, bool rows_of_all = false> struct Place {
  T* at;
  int way;

  template <class P>
  __device__ __forceinline__ Place(const P& p, T* array, long long n, int direction)
      : at(array + n * k * p.hidden), way(arch::kept(direction * p.rows * k * p.hidden)) {}
  // On to the next step, whose first row in the array is n.
  template <class P> __device__ __forceinline__ void go_on(const P& p, T* array, long long n) {
    if constexpr (Traits::lengths && !rows_of_all) at = array + n * k * p.hidden;
    else at += way;
  }
  // Where the step so many further on begins; with lengths, that whose first row is n.
  __device__ __forceinline__ T* further_on(int steps, T* array, long long n, int hidden) const {
    if constexpr (Traits::lengths && !rows_of_all) return array + n * k * hidden;
    return at + (long long)steps * way;
  }
};

// In an array of k numbers a row and unit: the number of the unit of a row of the step that begins at `step`.
template <int k, class T, class Index> __device__ __forceinline__ T* element(T* step, Index row, int hidden, int unit) {
  return step + (row * k * hidden + unit);
}

}  // namespace rnn_gpu
