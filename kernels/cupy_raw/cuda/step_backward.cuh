// Backward, one elementwise kernel between products that other kernels do: the mirror of step_forward.cuh.
//
// Owner, shared memory, barrier, limits: as there. Segment k runs the cell up to the gradients that the k-th transposed
// product reads; the last one ends the step and begins the one before it in the recurrence.

namespace rnn_gpu {

template <class Cell, class T, class Kept, int segment> struct StepBackward {
  using Real = Working<T>;
  using Arguments = Parameters<T, Real, Kept>;
  using Unit = typename Cell::template Backward<Real>;
  static constexpr int n_state = Cell::n_state, n_vector = Cell::n_vector, n_stages = Cell::n_backward_stages;

  static __device__ __forceinline__ void run(const Arguments& p) {
    const int done = p.clock[p.parity];
    const int t = p.reverse ? p.begin + done : p.end - 1 - done;
    const int t_next = p.reverse ? t + 1 : t - 1;
    const bool ends = segment == n_stages, begins_next = ends && n_stages > 0 && done + 1 < p.end - p.begin;
    const int rows = rows_at(p, t), rows_next = begins_next ? rows_at(p, t_next) : 0;
    const long long elements = (long long)(rows > rows_next ? rows : rows_next) * p.hidden;
    for (long long at = first_element(); at < elements; at += stride()) {
      const Row row = row_of(p, int(at / p.hidden));
      const int unit_index = int(at % p.hidden);
      Unit unit;
      if (row.sorted < rows) {
        const bool reset = load(p, unit, row, t, unit_index);
        if constexpr (segment < n_stages) publish(p, unit, row, unit_index);
        if constexpr (segment == n_stages) {
          const long long n = start_of(p, t);
          store_gradients<Cell>(p, unit, p.d_P + n * Cell::n_input * p.hidden,
                                p.d_R + n * Cell::n_recurrent * p.hidden, WideRow(row), unit_index);
          store_operands<Cell>(p, unit, p.operands + n * Cell::n_stages * p.hidden, WideRow(row), unit_index);
#pragma unroll
          for (int s = 0; s < n_state; ++s)
            p.d_initial[at_state(p, row, s, unit_index)] = reset ? Real(0) : unit.d_state[s];
          if constexpr (n_vector > 0) {
#pragma unroll
            for (int v = 0; v < n_vector; ++v) {
              Sum<Real> sum;
              sum.load(p, v, n_vector, row, unit_index);
              sum.add(unit.d_vector[v]);
              sum.store(p, v, n_vector, row, unit_index);
            }
          }
        }
      }
      if constexpr (segment == n_stages && n_stages > 0) {
        if (row.sorted < rows_next) {
          StepBackward<Cell, T, Kept, 0>::load(p, unit, row, t_next, unit_index);
          StepBackward<Cell, T, Kept, 0>::publish(p, unit, row, unit_index);
        }
      }
    }
    if (ends && arch::block_index() == 0 && arch::thread_index() == 0) p.clock[1 - p.parity] = done + 1;
  }

  // Fill what the cell reads, and run it through segment `segment`. Returns whether the step began with a reset.
  static __device__ __forceinline__ bool load(const Arguments& p, Unit& unit, const Row& row, int t, int unit_index) {
    BackwardStep<Cell, T> step;
    const long long n = start_of(p, t), n_before = is_first(p, row, t) ? 0 : start_of(p, p.reverse ? t + 1 : t - 1);
    step.load_after(p, WideRow(row), p.history + n * n_state * p.hidden, unit_index);
    step.load_others(p, WideRow(row), t, p.history + n_before * n_state * p.hidden,
                     p.saved + (n - p.rows_begin) * Cell::n_saved * p.hidden,
                     static_cast<const char*>(p.dy) + (long long)t * p.rows * p.hidden * step.dy_bytes(p), unit_index);
    step.is_reset = is_reset(p, row, t);
#pragma unroll
    for (int s = 0; s < n_state; ++s) unit.d_state_new[s] = p.d_initial[at_state(p, row, s, unit_index)];
    step.give(unit);
    if constexpr (n_vector > 0) {
#pragma unroll
      for (int v = 0; v < n_vector; ++v) unit.vector[v] = widen(p.vectors[v * p.hidden + unit_index]);
    }
    if constexpr (segment > 0) {
      unrolled<segment>([&](auto stage) {
        constexpr int k = decltype(stage)::value;
        Cell::template backward<k>(unit);
        unit.d_operand = p.products[((long long)k * p.rows + row.sorted) * p.hidden + unit_index];
      });
    }
    Cell::template backward<segment>(unit);
    return step.is_reset;
  }

  // The gradients of the gates whose transposed product is the segment-th: [B, inputs, H].
  static __device__ __forceinline__ void publish(const Arguments& p, const Unit& unit, const Row& row, int unit_index) {
    constexpr int inputs = BackwardProducts<Cell>::inputs(segment);
    unrolled<inputs>([&](auto input) {
      constexpr int g = decltype(input)::value;
      constexpr int gate = Stages<Cell>::gate(BackwardProducts<Cell>::first(segment) + g);
      p.published()[((long long)row.sorted * inputs + g) * p.hidden + unit_index] = rounded<Kept>(unit.d_U[gate]);
    });
  }
};

}  // namespace rnn_gpu
