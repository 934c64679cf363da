// Forward, one elementwise kernel between products that other kernels do: any H, any B.
//
// Owner:      a thread owns the elements (row, unit) that its number leads to, one after the other; nothing is kept from
//             launch to launch but in global memory.
// Shared:     none.
// Barrier:    none in a kernel; the order of launches is the barrier.
// Limits:     none.
//
// Segment k runs the cell up to the operand of stage k; the last one ends the step and begins the next. Where the states
// before all steps are known, the elements of many steps are independent: `Replay` runs them together, to make again
// what backward reads.

namespace rnn_gpu {

template <class Cell, class T, class Kept, int segment> struct StepForward {
  using Real = Working<T>;
  using Arguments = Parameters<T, Real, Kept>;
  using Unit = typename Cell::template Forward<Real>;
  static constexpr int n_input = Cell::n_input, n_recurrent = Cell::n_recurrent, n_state = Cell::n_state;
  static constexpr int n_vector = Cell::n_vector, n_saved = Cell::n_saved, n_stages = Cell::n_stages;

  static __device__ __forceinline__ void run(const Arguments& p) {
    const int done = p.clock[p.parity];
    const int t = p.reverse ? p.steps - 1 - done : done;
    const int t_next = p.reverse ? t - 1 : t + 1;
    const bool ends = segment == n_stages, begins_next = ends && n_stages > 0 && done + 1 < p.steps;
    const int rows = rows_at(p, t), rows_next = begins_next ? rows_at(p, t_next) : 0;
    const long long elements = (long long)(rows > rows_next ? rows : rows_next) * p.hidden;
    for (long long at = first_element(); at < elements; at += stride()) {
      const Row row = row_of(p, int(at / p.hidden));
      const int unit_index = int(at % p.hidden);
      Unit unit;
      if (row.sorted < rows) {
        const long long n = start_of(p, t) + row.sorted;
        load(p, unit, row, t, n, row.sorted, unit_index, [&](int s) { return p.last[at_state(p, row, s, unit_index)]; });
        if constexpr (segment < n_stages) p.published()[at] = rounded<Kept>(unit.operand);
        if constexpr (segment == n_stages) {
#pragma unroll
          for (int s = 0; s < n_state; ++s) {
            p.last[at_state(p, row, s, unit_index)] = unit.state_new[s];
            if (p.history) p.history[(n * n_state + s) * p.hidden + unit_index] = unit.state_new[s];
          }
          p.y[((long long)t * p.rows + row.caller) * p.hidden + unit_index] = rounded<T>(unit.state_new[0]);
          save(p, unit, n, unit_index);
        }
      }
      if (row.sorted < rows_next) {
        const long long n = start_of(p, t_next) + row.sorted;
        StepForward<Cell, T, Kept, 0>::load(p, unit, row, t_next, n, row.sorted, unit_index,
                                            [&](int s) { return p.last[at_state(p, row, s, unit_index)]; });
        if constexpr (n_stages > 0) p.published()[at] = rounded<Kept>(unit.operand);
      }
    }
    if (ends && arch::block_index() == 0 && arch::thread_index() == 0) p.clock[1 - p.parity] = done + 1;
  }

  // The same for all elements of the steps begin <= t < end, whose states are known.
  static __device__ __forceinline__ void replay(const Arguments& p) {
    const long long first = start_of(p, p.begin), elements = (start_of(p, p.end) - first) * p.hidden;
    for (long long at = first_element(); at < elements; at += stride()) {
      const long long n = first + at / p.hidden;
      const int t = step_of(p, n), unit_index = int(at % p.hidden);
      const Row row = row_of(p, int(n - start_of(p, t)));
      Unit unit;
      load(p, unit, row, t, n, n - p.rows_begin, unit_index,
           [&](int s) { return state_before<n_state>(p, row, t, s, unit_index); });
      if constexpr (segment < n_stages) p.published()[at] = rounded<Kept>(unit.operand);
      if constexpr (segment == n_stages) save(p, unit, n, unit_index);
    }
  }

  // Fill what the cell reads, and run it through segment `segment`. `product_row`: of the row in `products`.
  template <class State>
  static __device__ __forceinline__ void load(const Arguments& p, Unit& unit, const Row& row, int t, long long n,
                                              long long product_row, int unit_index, const State& state) {
    const bool reset = is_reset(p, row, t);
#pragma unroll
    for (int s = 0; s < n_state; ++s) unit.state[s] = reset ? Real(0) : state(s);
    if constexpr (n_input > 0) {
#pragma unroll
      for (int g = 0; g < n_input; ++g)
        unit.Wx[g] = p.P[((n - p.rows_begin) * n_input + g) * p.hidden + unit_index] +
                     (p.b_ih ? widen(p.b_ih[g * p.hidden + unit_index]) : Real(0));
    }
    if constexpr (n_vector > 0) {
#pragma unroll
      for (int v = 0; v < n_vector; ++v) unit.vector[v] = widen(p.vectors[v * p.hidden + unit_index]);
    }
    if constexpr (segment > 0) {
      unrolled<segment>([&](auto stage) {
        constexpr int k = decltype(stage)::value;
        Cell::template forward<k>(unit);
        unrolled<Stages<Cell>::size(k)>([&](auto output) {
          constexpr int place = Stages<Cell>::begin(k) + decltype(output)::value, gate = Stages<Cell>::gate(place);
          unit.U[gate] = p.products[(product_row * n_recurrent + place) * p.hidden + unit_index] +
                         (p.b_hh ? widen(p.b_hh[gate * p.hidden + unit_index]) : Real(0));
        });
      });
    }
    Cell::template forward<segment>(unit);
  }

 private:
  static __device__ __forceinline__ void save(const Arguments& p, const Unit& unit, long long n, int unit_index) {
    if constexpr (n_saved > 0) {
      if (p.saved) {
#pragma unroll
        for (int s = 0; s < n_saved; ++s)
          p.saved[((n - p.rows_begin) * n_saved + s) * p.hidden + unit_index] = unit.saved[s];
      }
    }
  }
};

}  // namespace rnn_gpu
