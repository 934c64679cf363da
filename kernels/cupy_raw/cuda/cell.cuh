// What drivers ask of an emitted cell, beyond what it says itself. Everything here is computed by the compiler.

namespace rnn_gpu {

// The order of the stages: gates are numbered by `position`, a stage's gates one after the other.
template <class Cell> struct Stages {
  // The stage that gives gate g's recurrent product.
  __device__ static constexpr int of(int gate) {
    if constexpr (Cell::n_recurrent > 0) return Cell::stage_of(gate);
    return gate;
  }
  // The number of gates of a stage.
  __device__ static constexpr int size(int stage) {
    int count = 0;
    for (int g = 0; g < Cell::n_recurrent; ++g) count += of(g) == stage;
    return count;
  }
  // The position of a stage's first gate.
  __device__ static constexpr int begin(int stage) {
    int count = 0;
    for (int g = 0; g < Cell::n_recurrent; ++g) count += of(g) < stage;
    return count;
  }
  // The position of a gate.
  __device__ static constexpr int position(int gate) {
    int before = begin(of(gate));
    for (int g = 0; g < gate; ++g) before += of(g) == of(gate);
    return before;
  }
  // The gate at a position.
  __device__ static constexpr int gate(int place) {
    for (int g = 0; g < Cell::n_recurrent; ++g)
      if (position(g) == place) return g;
    return -1;
  }
  // The stage of the k-th transposed product of backward.
  __device__ static constexpr int backward(int k) {
    if constexpr (Cell::n_backward_stages > 0) return Cell::backward_stage(k);
    return k;
  }
};

// The products of the forward direction: stage k is operand [H] times the rows of its gates.
template <class Cell> struct ForwardProducts {
  static constexpr int n_stages = Cell::n_stages;
  __device__ static constexpr int outputs(int k) { return Stages<Cell>::size(k); }  // a hidden unit
  __device__ static constexpr int inputs(int) { return 1; }                         // a hidden unit
  static constexpr bool transposed = false;
  __device__ static constexpr int first(int k) { return Stages<Cell>::begin(k); }
};

// Those of the backward direction: gradients of a stage's gates [S_k * H] times their columns.
template <class Cell> struct BackwardProducts {
  static constexpr int n_stages = Cell::n_backward_stages;
  __device__ static constexpr int outputs(int) { return 1; }
  __device__ static constexpr int inputs(int k) { return Stages<Cell>::size(Stages<Cell>::backward(k)); }
  static constexpr bool transposed = true;
  __device__ static constexpr int first(int k) { return Stages<Cell>::begin(Stages<Cell>::backward(k)); }
};

}  // namespace rnn_gpu
