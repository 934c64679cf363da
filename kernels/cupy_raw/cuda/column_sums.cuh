// The sums of the columns of a matrix [N, C], for each of some pieces of its rows: out [pieces, C]. Sums are float64.
//
// Owner:      a block owns 32 * width columns of a piece, a warp every n_warps-th row of them, a thread `width` columns next
//             to each other, which it loads at once; after the barrier, one column.
// Shared:     [n_warps, 32 * width]: the warps' sums.
// Registers:  the thread's sums, of the rows in their order.
// Barrier:    one, after the warps' sums are stored; they are added in the order of the warps. The sums of the pieces are
//             added by another launch. So the bits are the same each time.
// Limits:     as many threads as a block has columns, or more; a block for each piece and 32 * width columns.

namespace rnn_gpu {

template <class From, class To> struct ColumnSums {
  struct Arguments {
    const From* source;  // [N, C]
    To* out;             // [pieces, C]
    To* again;           // [pieces, C] for the same once more, or null
    long long rows;      // N
    int columns;         // C
    int pieces;          // of the rows
  };

  static __device__ __forceinline__ void run(const Arguments& p) {
    constexpr int width = vector_size<From>();
    if (p.columns % width == 0)
      sum<width>(p);
    else
      sum<1>(p);
  }

 private:
  template <int width> static __device__ __forceinline__ void sum(const Arguments& p) {
    constexpr int span = 32 * width;
    double* const shared = reinterpret_cast<double*>(arch::shared_memory());
    const int n_warps = arch::n_threads() / 32, warp = arch::thread_index() / 32, lane = arch::thread_index() % 32;
    const int piece = arch::block_index() % p.pieces;
    const long long size = (p.rows + p.pieces - 1) / p.pieces, begin = piece * size;
    const long long end = begin + size < p.rows ? begin + size : p.rows;
    const int column = arch::block_index() / p.pieces * span + lane * width;
    Registers<double, width> sums;
#pragma unroll
    for (int c = 0; c < width; ++c) sums[c] = 0;
    if (column < p.columns) {
#pragma unroll 4
      for (long long row = begin + warp; row < end; row += n_warps) {
        const auto loaded = *reinterpret_cast<const Vector<From, width>*>(p.source + row * p.columns + column);
#pragma unroll
        for (int c = 0; c < width; ++c) sums[c] += double(widen(loaded.at[c]));
      }
    }
#pragma unroll
    for (int c = 0; c < width; ++c) shared[warp * span + lane * width + c] = sums[c];
    arch::block_barrier();
    const int own = arch::thread_index(), summed = arch::block_index() / p.pieces * span + own;
    if (own < span && summed < p.columns) {
      double total = 0;
      for (int w = 0; w < n_warps; ++w) total += shared[w * span + own];
      const long long place = (long long)piece * p.columns + summed;
      p.out[place] = rounded<To>(Working<To>(total));
      if (p.again) p.again[place] = p.out[place];
    }
  }
};

}  // namespace rnn_gpu
