// What one step of backward reads and writes for one row and unit, whichever kernel does it.

namespace rnn_gpu {

// A compensated sum: its error does not grow with the number of terms (Kahan, 1965).
template <class Real> struct Sum {
  Real total = Real(0), rest = Real(0);
  __device__ __forceinline__ void add(Real term) {
    const Real wanted = term - rest;
    const Real next = total + wanted;
    rest = (next - total) - wanted;
    total = next;
  }
  // To and from d_vectors: [total and rest, n_vector, B, H].
  template <class P> __device__ __forceinline__ void load(const P& p, int v, int n_vector, const Row& row, int unit) {
    const long long at = ((long long)v * p.rows + row.sorted) * p.hidden + unit;
    total = p.d_vectors[at];
    rest = p.d_vectors[(long long)n_vector * p.rows * p.hidden + at];
  }
  template <class P>
  __device__ __forceinline__ void store(const P& p, int v, int n_vector, const Row& row, int unit) const {
    const long long at = ((long long)v * p.rows + row.sorted) * p.hidden + unit;
    p.d_vectors[at] = total;
    p.d_vectors[(long long)n_vector * p.rows * p.hidden + at] = rest;
  }
};

// What a step reads of the forward pass and of the caller's gradient of y.
template <class Cell, class T, class Operand> struct BackwardStep {
  using Real = Working<T>;
  static constexpr int n_state = Cell::n_state, n_saved = Cell::n_saved;
  Registers<Real, n_state> before, after;
  Registers<Real, n_saved> saved;
  Real dy;
  bool is_reset;

  template <class P> __device__ __forceinline__ void load(const P& p, const Row& row, int t, int unit) {
    const long long n = start_of(p, t) + row.sorted;
#pragma unroll
    for (int s = 0; s < n_state; ++s) {
      before[s] = state_before<n_state>(p, row, t, s, unit);
      after[s] = p.history[(n * n_state + s) * p.hidden + unit];
    }
#pragma unroll
    for (int s = 0; s < n_saved; ++s) saved[s] = p.saved[((n - p.rows_begin) * n_saved + s) * p.hidden + unit];
    dy = Real(0);
    if (p.dy) {
      const long long at = ((long long)t * p.rows + row.caller) * p.hidden + unit;
      dy = p.dy_is_real ? static_cast<const Real*>(p.dy)[at] : widen(static_cast<const T*>(p.dy)[at]);
    }
    is_reset = rnn_gpu::is_reset(p, row, t);
  }

  // Hand it to the cell; dy is a part of the gradient of the first state.
  template <class Unit> __device__ __forceinline__ void give(Unit& unit) const {
#pragma unroll
    for (int s = 0; s < n_state; ++s) {
      unit.state[s] = is_reset ? Real(0) : before[s];
      unit.state_new[s] = after[s];
    }
    if constexpr (n_saved > 0) {
#pragma unroll
      for (int s = 0; s < n_saved; ++s) unit.saved[s] = saved[s];
    }
    unit.d_state_new[0] += dy;
  }
};

// What each stage multiplied, for the gradient of U.
template <class Cell, class P, class Unit>
__device__ __forceinline__ void store_operands(const P& p, Unit& unit, long long n, int at) {
  if constexpr (Cell::n_stages > 0) {
    unrolled<Cell::n_stages>([&](auto stage) {
      constexpr int k = decltype(stage)::value;
      Cell::template operand<k>(unit);
      p.operands[(n * Cell::n_stages + k) * p.hidden + at] = rounded<typename P::Multiplied>(unit.operand);
    });
  }
}

// The gradients of W x_t + b_ih and of U operand + b_hh; where they are the same numbers, once.
template <class Cell, class P, class Unit>
__device__ __forceinline__ void store_gradients(const P& p, const Unit& unit, long long n, int at) {
  if constexpr (Cell::n_input > 0) {
    unrolled<Cell::n_input>([&](auto input) {
      constexpr int g = decltype(input)::value;
      p.d_P[(n * Cell::n_input + g) * p.hidden + at] = rounded<typename P::Multiplied>(unit.d_Wx[g]);
    });
  }
  if constexpr (!Cell::same_gradients && Cell::n_recurrent > 0) {
    unrolled<Cell::n_recurrent>([&](auto place) {
      constexpr int s = decltype(place)::value;
      p.d_R[(n * Cell::n_recurrent + s) * p.hidden + at] = rounded<typename P::Multiplied>(unit.d_U[Stages<Cell>::gate(s)]);
    });
  }
}

}  // namespace rnn_gpu
