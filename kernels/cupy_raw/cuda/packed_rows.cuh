// Rows of different lengths: from the caller's [T, B, C] to where the steps that exist lie together, [N, C], and back.
// n, sorted rows, starts and order: as in parameters.cuh.
//
// Owner:      a warp owns a row of one step, and after it one as many rows further on as there are warps; a lane every 32nd
//             of its numbers.
// Shared:     none.
// Barrier:    none.
// Limits:     none.

namespace rnn_gpu {

template <class From, class To> struct PackedRows {
  struct Arguments {
    const From* source;
    To* out;
    const long long* starts;  // [T + 1]
    const int* order;         // [B]
    int steps;                // T
    int rows;                 // B
    int columns;              // C
  };

  // out [N, C] of source [T, B, C].
  static __device__ __forceinline__ void pack(const Arguments& p) {
    each_row(p, [&](long long caller, long long n, bool is) {
      if (is) copy(p, caller, n);
    });
  }

  // out [T, B, C] of source [N, C]; 0 where a row has ended.
  static __device__ __forceinline__ void unpack(const Arguments& p) {
    each_row(p, [&](long long caller, long long n, bool is) {
      if (is) {
        copy(p, n, caller);
        return;
      }
      for (int c = lane(); c < p.columns; c += 32) p.out[caller * p.columns + c] = To{};
    });
  }

 private:
  static __device__ __forceinline__ int lane() { return arch::thread_index() % 32; }

  // body(t * B + row in the caller's numbering, n, whether the row has the step) for each row that this warp owns.
  template <class Body> static __device__ __forceinline__ void each_row(const Arguments& p, const Body& body) {
    const int n_warps = arch::n_threads() / 32, warp = arch::block_index() * n_warps + arch::thread_index() / 32;
    for (long long i = warp; i < (long long)p.steps * p.rows; i += (long long)arch::n_blocks() * n_warps) {
      const int t = int(i / p.rows), sorted = int(i - (long long)t * p.rows);
      body((long long)t * p.rows + p.order[sorted], p.starts[t] + sorted, p.starts[t] + sorted < p.starts[t + 1]);
    }
  }

  // Row `from` of the source to row `to` of out.
  static __device__ __forceinline__ void copy(const Arguments& p, long long from, long long to) {
#pragma unroll 4
    for (int c = lane(); c < p.columns; c += 32)
      p.out[to * p.columns + c] = rounded<To>(widen(p.source[from * p.columns + c]));
  }
};

}  // namespace rnn_gpu
