// The one argument of every kernel, passed by value; parameters.py has the same fields, and each compilation checks that
// sizes and offsets agree.
//
// T time steps, B rows, H hidden units, G gates with an input product, S with a recurrent one, K stages.
// Rows are numbered in two ways: the caller's 0 .. B-1, and sorted, the longest first. The steps that exist, those before
// the end of their row, are numbered n = 0 .. N-1, step by step and within a step by sorted row.
// Real is the working type, Kept the type in which gradients of products are kept for the products over all steps.

namespace rnn_gpu {

template <class T, class Real, class Kept> struct Parameters {
  using Stored = T;

  int steps;        // T
  int rows;         // B
  int hidden;       // H
  int reverse;      // 1: from the last step to the first
  int begin, end;   // this launch does the steps begin <= t < end
  int dy_is_real;   // dy is Real, not T
  int tiles;        // of rows, in sequence kernels
  int parity;       // stepwise: which of clock's numbers this kernel reads
  int slots;        // grid: that a team has in exchange
  long long rows_begin;  // n of the first row of P and of saved

  // Of the call
  const T* U;                // [S, H, H]: the gates' blocks in the order of their stages
  const T* b_ih;             // [G, H] or null
  const T* b_hh;             // [S, H] or null
  const T* vectors;          // [n_vector, H]
  const Real* initial;       // [n_state, B, H] or null for zeros
  const unsigned char* resets;  // [T, B] or null
  const int* ends;           // [B]: length of each sorted row, or null: T
  const int* order;          // [B]: the caller's number of each sorted row, or null: the same
  const long long* starts;   // [T + 1]: n of each step's first row, or null: t * B

  // Forward
  const Real* P;             // [N - rows_begin, G, H]: W x_t
  T* y;                      // [T, B, H]
  Real* last;                // [n_state, B, H]
  Real* history;             // [N, n_state, H]: states after each step, or null
  Real* saved;               // [N - rows_begin, n_saved, H] or null

  // Backward
  const void* dy;            // [T, B, H] of T or of Real, or null for zeros
  const Real* d_last;        // [n_state, B, H] or null for zeros
  Real* d_initial;           // [n_state, B, H]
  Kept* d_P;                 // [N, G, H]
  Kept* d_R;                 // [N, S, H], in the order of the stages; d_P where they are the same
  Kept* operands;            // [N, K, H]: what each stage multiplied
  Real* d_vectors;           // [2, n_vector, B, H]: sums over the steps done so far and their rests, by sorted row

  // Between blocks, and between kernels
  void* exchange;            // grid: what a stage publishes, of the type that its products read, see GridTeam;
                             // stepwise: of Kept, [B, H], backward [B, S_k, H]
  arch::uint32* counters;    // grid: arrivals of each team, 0 when a kernel starts
  Real* products;            // stepwise: [B, S, H] forward, [K, B, H] backward
  int* clock;                // stepwise: [2], steps done so far; read here, written there, and the reverse

  // stepwise: what is exchanged
  __device__ __forceinline__ Kept* published() const { return static_cast<Kept*>(exchange); }
};

}  // namespace rnn_gpu
