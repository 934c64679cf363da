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
template <class Cell, class T> struct BackwardStep {
  using Real = Working<T>;
  static constexpr int n_state = Cell::n_state, n_saved = Cell::n_saved;
  Registers<Real, n_state> before, after;
  Registers<Real, n_saved> saved;
  Real dy;
  bool is_reset;

  // Bytes of a number of dy.
  template <class P> static __device__ __forceinline__ int dy_bytes(const P& p) {
    return p.dy_is_real ? int(sizeof(Real)) : int(sizeof(T));
  }

  // The states after a step. history: where it begins.
  template <class P, class AnyRow>
  __device__ __forceinline__ void load_after(const P& p, const AnyRow& row, const Real* history, int unit) {
    const Real* const own = element<n_state>(history, row.sorted, p.hidden, unit);
#pragma unroll
    for (int s = 0; s < n_state; ++s) after[s] = own[s * p.hidden];
  }

  // All else that step t of a row reads. history: where the step before it, in the order of the recurrence, begins; kept
  // and d_output: where the step itself does in `saved` and in dy, if there is one.
  template <class P, class AnyRow>
  __device__ __forceinline__ void load_others(const P& p, const AnyRow& row, int t, const Real* history, const Real* kept,
                                              const void* d_output, int unit) {
    const bool first = is_first(p, row, t);
    const Real* from = element<n_state>(history, row.sorted, p.hidden, unit);
    if (first) from = p.initial ? p.initial + at_state(p, row, 0, unit) : nullptr;
    const long long apart = first ? (long long)p.rows * p.hidden : p.hidden;
#pragma unroll
    for (int s = 0; s < n_state; ++s) before[s] = from ? from[s * apart] : Real(0);
    if constexpr (n_saved > 0) {
      const Real* const own = element<n_saved>(kept, row.sorted, p.hidden, unit);
#pragma unroll
      for (int s = 0; s < n_saved; ++s) saved[s] = own[s * p.hidden];
    }
    dy = Real(0);
    if (p.dy)
      dy = p.dy_is_real ? *element<1>(static_cast<const Real*>(d_output), row.caller, p.hidden, unit)
                        : widen(*element<1>(static_cast<const T*>(d_output), row.caller, p.hidden, unit));
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

// What each stage multiplied, for the gradient of U, into the step that begins at `operands`.
template <class Cell, class P, class Unit, class Kept, class AnyRow>
__device__ __forceinline__ void store_operands(const P& p, Unit& unit, Kept* operands, const AnyRow& row,
                                               int unit_index) {
  if constexpr (Cell::n_stages > 0) {
    Kept* const to = element<Cell::n_stages>(operands, row.sorted, p.hidden, unit_index);
    unrolled<Cell::n_stages>([&](auto stage) {
      constexpr int k = decltype(stage)::value;
      Cell::template operand<k>(unit);
      to[k * p.hidden] = rounded<Kept>(unit.operand);
    });
  }
}

// The gradients of W x_t + b_ih and of U operand + b_hh, where they are the same numbers once, into the step that begins
// at d_P and d_R.
template <class Cell, class P, class Unit, class Kept, class AnyRow>
__device__ __forceinline__ void store_gradients(const P& p, const Unit& unit, Kept* d_P, Kept* d_R,
                                                const AnyRow& row, int unit_index) {
  if constexpr (Cell::n_input > 0) {
    Kept* const to = element<Cell::n_input>(d_P, row.sorted, p.hidden, unit_index);
    unrolled<Cell::n_input>([&](auto input) {
      constexpr int g = decltype(input)::value;
      to[g * p.hidden] = rounded<Kept>(unit.d_Wx[g]);
    });
  }
  if constexpr (!Cell::same_gradients && Cell::n_recurrent > 0) {
    Kept* const to = element<Cell::n_recurrent>(d_R, row.sorted, p.hidden, unit_index);
    unrolled<Cell::n_recurrent>([&](auto place) {
      constexpr int s = decltype(place)::value;
      to[s * p.hidden] = rounded<Kept>(unit.d_U[Stages<Cell>::gate(s)]);
    });
  }
}

}  // namespace rnn_gpu
