// The recurrent products of one block on tensor cores: rows of U are the left operand, rows of the batch the right one.
//
// A warp owns `units` octets of hidden units, or shares them with `splits` - 1 others that each take a part of the
// columns. An mma multiplies 16 rows of U, two octets of one output each, with 8 rows of the batch. Its sum over columns
// is indifferent to their order: here a thread always has 16 bytes of neighbouring columns of its row, which serve two
// mma's. What it gets back are the sums of its own items: unit `lane / 4` of each octet, batch rows 2 * (lane % 4) and
// the next. Where warps share, the partial sums go through shared memory, in one of two places in turn, with a barrier.
// Layout of fragments: PTX ISA, mma.m16n8k16 and mma.m16n8k8.

namespace rnn_gpu {

template <class Cell, class T, class Traits, template <class> class Direction> struct MmaProduct {
  using Real = Working<T>;
  using Operand = typename Traits::Operand;
  using Products = Direction<Cell>;
  static_assert(sizeof(Operand) == sizeof(T) && sizeof(Real) == 4, "16-bit numbers, or float32 as TensorFloat-32");

  static constexpr int threads = Traits::threads, splits = Traits::splits, octets = Traits::units, chunk = Traits::chunk;
  static constexpr int width = vector_size<Operand>();
  static constexpr int span = 4 * width;  // columns of two mma's
  static constexpr int n_stages = Products::n_stages;
  static constexpr int warps = threads / 32, block_units = warps / splits * octets * 8;
  static constexpr int groups = chunk / 8;          // of eight rows of the batch
  static constexpr int items = 2 * octets * groups;  // of a thread, before they are shared out
  static constexpr int owners = items < splits ? items : splits;
  static constexpr int per_lane = items / owners;

  static_assert(threads % (32 * splits) == 0 && threads <= 1024 && chunk % 8 == 0);
  static_assert((splits & (splits - 1)) == 0 && (items & (items - 1)) == 0, "items are shared out evenly");
  static_assert(Traits::hidden % (span * splits) == 0, "each warp has whole spans");

  __device__ static constexpr int columns(int k) { return Traits::hidden * Products::inputs(k); }
  // Of a thread, of each octet of rows of U: in all and in registers.
  __device__ static constexpr int vectors(int k) { return columns(k) / (span * splits); }
  __device__ static constexpr int in_registers(int k) {
    return vectors(k) < Traits::register_vectors ? vectors(k) : Traits::register_vectors;
  }
  __device__ static constexpr int registers_before(int stage) {
    int count = 0;
    for (int k = 0; k < stage; ++k) count += Products::outputs(k) * octets * in_registers(k);
    return count;
  }
  __device__ static constexpr int shared_before(int stage) {
    int count = 0;
    for (int k = 0; k < stage; ++k) count += Products::outputs(k) * octets * (vectors(k) - in_registers(k));
    return count;
  }
  __device__ static constexpr int widest() {
    int most = 0;
    for (int k = 0; k < n_stages; ++k) most = columns(k) > most ? columns(k) : most;
    return most;
  }
  __device__ static constexpr int most_outputs() {
    int most = 0;
    for (int k = 0; k < n_stages; ++k) most = Products::outputs(k) > most ? Products::outputs(k) : most;
    return most;
  }

  // Rows of an operand are half a line of all banks apart, so that two rows that are read at once do not meet.
  static constexpr int stride = widest() + (widest() % (2 * span) == 0 ? span : 0);
  static constexpr int partial_floats = splits > 1 ? 2 * warps * items * most_outputs() * 32 : 0;
  static constexpr int shared_bytes = shared_before(n_stages) * threads * 16 + partial_floats * 4;

  union Columns {
    arch::Bytes16 bytes;
    Operand at[width];
  };

  Registers<arch::Bytes16, registers_before(n_stages)> in_register{};
  arch::Bytes16* in_shared;  // [shared_before, threads]
  float* partial;            // [2, warps, items, outputs, 32]
  int lane, warp, parity = 0;

  __device__ __forceinline__ explicit MmaProduct(unsigned char* shared)
      : in_shared(reinterpret_cast<arch::Bytes16*>(shared) + arch::thread_index()),
        partial(reinterpret_cast<float*>(shared + shared_before(n_stages) * threads * 16)),
        lane(arch::thread_index() % 32),
        warp(arch::thread_index() / 32) {}

  __device__ __forceinline__ int split() const { return warp % splits; }
  __device__ __forceinline__ bool owns() const { return split() < owners; }
  // Item e of this thread: its row in the chunk and its unit in the block.
  __device__ __forceinline__ int item(int e) const { return e * owners + split(); }
  __device__ __forceinline__ int row(int e) const { return item(e) / (2 * octets) * 8 + lane % 4 * 2 + item(e) % 2; }
  __device__ __forceinline__ int unit(int e) const { return octet_unit(item(e) / 2 % octets); }

  // As products read it.
  static __device__ __forceinline__ Operand prepared(Real x) {
    if constexpr (sizeof(Operand) == 4) return arch::to_tf32(x);
    else return rounded<Operand>(x);
  }

  // Bring the columns of the block's units, those from first_unit on, to where they stay.
  __device__ __forceinline__ void load(const T* U, int hidden, int first_unit) {
    unrolled<n_stages>([&](auto stage) {
      constexpr int k = decltype(stage)::value, kept = in_registers(k);
      unrolled<Products::outputs(k) * octets>([&](auto octet) {
        constexpr int o = decltype(octet)::value;
        const int unit_here = first_unit + octet_unit(o % octets);
        const auto vector = [&](int v) {
          const int first_column = (v * splits + split()) * span + lane % 4 * width;
          Columns loaded;
#pragma unroll
          for (int i = 0; i < width; ++i) {
            const int in_block = first_column % Traits::hidden + i;
            const long long gate =
                Products::first(k) + (Products::transposed ? first_column / Traits::hidden : o / octets);
            T weight{};
            if (unit_here < hidden && in_block < hidden) {
              if constexpr (Products::transposed) weight = U[(gate * hidden + in_block) * hidden + unit_here];
              else weight = U[(gate * hidden + unit_here) * hidden + in_block];
            }
            loaded.at[i] = prepared(widen(weight));
          }
          return loaded.bytes;
        };
        if constexpr (kept > 0) {
          constexpr int n = at_a_time(kept), first = registers_before(k) + o * kept, last = first + kept - n;
#pragma unroll 1
          for (int v = 0; v < kept; v += n) {  // they come in at the end, as registers cannot be counted off by v
            arch::Bytes16 loaded[n];
#pragma unroll
            for (int i = 0; i < n; ++i) loaded[i] = vector(v + i);
#pragma unroll
            for (int i = first; i < last; ++i) in_register[i] = in_register[i + n];
#pragma unroll
            for (int i = 0; i < n; ++i) in_register[last + i] = loaded[i];
          }
        }
#pragma unroll at_a_time(vectors(k) - kept)
        for (int v = kept; v < vectors(k); ++v)
          in_shared[(shared_before(k) + o * (vectors(k) - kept) + v - kept) * threads] = vector(v);
      });
    });
  }

  // sums[e][m]: output m of stage k for this thread's items. `operand`: the chunk's first row, rows `stride` apart.
  // All threads of a block call it together.
  template <int k>
  __device__ __forceinline__ void run(const Operand* operand, Real (&sums)[per_lane][Products::outputs(k)]) {
    constexpr int outputs = Products::outputs(k), kept = in_registers(k), rows16 = (outputs * octets + 1) / 2;
    float d[rows16][groups][4] = {};
    const arch::Bytes16* const mine =
        reinterpret_cast<const arch::Bytes16*>(operand + lane / 4 * stride + split() * span) + lane % 4;
    const auto multiply = [&](int v, const auto& weights) {
      arch::Bytes16 x[groups];
#pragma unroll
      for (int n = 0; n < groups; ++n) x[n] = mine[(n * 8 * stride + v * splits * span) / width];
#pragma unroll
      for (int i = 0; i < rows16; ++i) {
        const arch::Bytes16 low = weights(2 * i);
        arch::Bytes16 high{};
        if (2 * i + 1 < outputs * octets) high = weights(2 * i + 1);
#pragma unroll
        for (int n = 0; n < groups; ++n) {
          arch::mma<Operand>(d[i][n], low.words[0], high.words[0], low.words[1], high.words[1], x[n].words[0],
                             x[n].words[1]);
          arch::mma<Operand>(d[i][n], low.words[2], high.words[2], low.words[3], high.words[3], x[n].words[2],
                             x[n].words[3]);
        }
      }
    };
#pragma unroll
    for (int v = 0; v < kept; ++v)
      multiply(v, [&](int o) { return in_register[registers_before(k) + o * kept + v]; });
#pragma unroll 1
    for (int v = kept; v < vectors(k); ++v)
      multiply(v, [&](int o) { return in_shared[(shared_before(k) + o * (vectors(k) - kept) + v - kept) * threads]; });

    // Of item i: row i % 2, octet i / 2 % octets, group of rows i / (2 * octets).
    const auto sum = [&](int i, int m) {
      const int o = m * octets + i / 2 % octets;
      return d[o / 2][i / (2 * octets)][o % 2 * 2 + i % 2];
    };
    if constexpr (splits == 1) {
#pragma unroll
      for (int e = 0; e < per_lane; ++e) {
#pragma unroll
        for (int m = 0; m < outputs; ++m) sums[e][m] = sum(e, m);
      }
    } else {
      float* const here = partial + parity * (partial_floats / 2) + lane;
      parity ^= 1;
      const auto place = [&](int of_warp, int i, int m) -> float& { return here[((of_warp * items + i) * outputs + m) * 32]; };
#pragma unroll
      for (int i = 0; i < items; ++i) {
#pragma unroll
        for (int m = 0; m < outputs; ++m) place(warp, i, m) = sum(i, m);
      }
      arch::block_barrier();  // the partial sums of all warps are there
      if (owns()) {
#pragma unroll
        for (int e = 0; e < per_lane; ++e) {
#pragma unroll
          for (int m = 0; m < outputs; ++m) {
            Real total = Real(0);
#pragma unroll
            for (int s = 0; s < splits; ++s) total += place(warp - split() + s, item(e), m);
            sums[e][m] = total;
          }
        }
      }
    }
  }

 private:
  // This thread's unit, in the block, of its warp's j-th octet.
  __device__ __forceinline__ int octet_unit(int j) const { return (warp / splits * octets + j) * 8 + lane / 4; }
};

}  // namespace rnn_gpu
