// The recurrent products of one block in IEEE multiply-adds: the block's part of U stays in registers and shared memory.
//
// A group of `lanes` neighbouring threads owns `units` hidden units; a thread owns every lanes-th vector of their
// columns: the first `register_vectors` of them in registers, the others in shared memory, in places that no other
// thread touches. Products of a chunk of rows are summed over the lanes by exchanging halves, after which each lane has
// the complete sums of its own items; an item is a (row, unit) of the chunk, and its thread does all of its elementwise
// work. The idea of weights that stay on the chip: Diamos et al. (2016), Persistent RNNs.

namespace rnn_gpu {

template <class Cell, class T, class Traits, template <class> class Direction> struct FmaProduct {
  using Real = Working<T>;
  using Operand = typename Traits::Operand;
  using Products = Direction<Cell>;
  static_assert(sizeof(Operand) == sizeof(Real), "these products read the working type");

  static constexpr int threads = Traits::threads, lanes = Traits::lanes, units = Traits::units, chunk = Traits::chunk;
  static constexpr int width = vector_size<Real>();
  static constexpr int n_stages = Products::n_stages;
  static constexpr int block_units = threads / lanes * units;
  static constexpr int items = chunk * units;             // of a group and a chunk
  static constexpr int owners = items < lanes ? items : lanes;  // lanes of a group that own items
  static constexpr int per_lane = items / owners;         // items of a thread and a chunk

  static_assert(threads % 32 == 0 && threads <= 1024 && 32 % lanes == 0, "a group lies within a warp");
  static_assert(Traits::hidden % (lanes * width) == 0, "each lane has whole vectors");
  static_assert((chunk & (chunk - 1)) == 0 && (units & (units - 1)) == 0, "halves are exchanged");

  // Of an operand: blocks of `hidden` columns, one for each input of a hidden unit. Those beyond the units stay 0.
  __device__ static constexpr int columns(int k) { return Traits::hidden * Products::inputs(k); }
  // Vectors of columns that a thread owns of each output, in all and in registers.
  __device__ static constexpr int vectors(int k) { return columns(k) / (lanes * width); }
  __device__ static constexpr int in_registers(int k) {
    return vectors(k) < Traits::register_vectors ? vectors(k) : Traits::register_vectors;
  }
  __device__ static constexpr int registers_before(int stage) {
    int count = 0;
    for (int k = 0; k < stage; ++k) count += Products::outputs(k) * units * in_registers(k) * width;
    return count;
  }
  __device__ static constexpr int shared_before(int stage) {  // in vectors of a thread
    int count = 0;
    for (int k = 0; k < stage; ++k) count += Products::outputs(k) * units * (vectors(k) - in_registers(k));
    return count;
  }
  __device__ static constexpr int widest() {
    int most = 0;
    for (int k = 0; k < n_stages; ++k) most = columns(k) > most ? columns(k) : most;
    return most;
  }

  using Stored = Vector<T, width>;
  using Loaded = Vector<Real, width>;
  static constexpr int stride = widest();  // of an operand's rows
  static constexpr int shared_bytes = shared_before(n_stages) * threads * int(sizeof(Stored));

  Registers<Real, registers_before(n_stages)> in_register{};
  Stored* in_shared;  // [shared_before, threads]
  int lane, group;

  __device__ __forceinline__ explicit FmaProduct(unsigned char* shared)
      : in_shared(reinterpret_cast<Stored*>(shared) + arch::thread_index()),
        lane(arch::thread_index() % lanes),
        group(arch::thread_index() / lanes) {}

  // Whether this thread owns items, and the row in its chunk and the unit in its block of its item e.
  __device__ __forceinline__ bool owns() const { return lane % (lanes / owners) == 0; }
  __device__ __forceinline__ int item(int e) const { return lane / (lanes / owners) * per_lane + e; }
  __device__ __forceinline__ int row(int e) const { return item(e) / units; }
  __device__ __forceinline__ int unit(int e) const { return group * units + item(e) % units; }

  // As products read it.
  static __device__ __forceinline__ Operand prepared(Real x) { return x; }

  // Bring the columns of the block's units, those from first_unit on, to where they stay.
  __device__ __forceinline__ void load(const T* U, int hidden, int first_unit) {
    unrolled<n_stages>([&](auto stage) {
      constexpr int k = decltype(stage)::value;
      constexpr int outputs = Products::outputs(k), kept = in_registers(k);
      unrolled<outputs * units>([&](auto output) {
        constexpr int o = decltype(output)::value;
        const int unit_here = first_unit + group * units + o % units;
        const auto vector = [&](int v) {
          const int column = (v * lanes + lane) * width;
          const long long gate = Products::first(k) + (Products::transposed ? column / Traits::hidden : o / units);
          Stored loaded;
#pragma unroll
          for (int i = 0; i < width; ++i) {
            const int in_block = column % Traits::hidden + i;
            T weight{};
            if (unit_here < hidden && in_block < hidden) {
              if constexpr (Products::transposed) weight = U[(gate * hidden + in_block) * hidden + unit_here];
              else weight = U[(gate * hidden + unit_here) * hidden + in_block];
            }
            loaded.at[i] = weight;
          }
          return loaded;
        };
        if constexpr (kept > 0) {
          constexpr int n = at_a_time(kept), first = registers_before(k) + o * kept * width;
          constexpr int last = first + (kept - n) * width;
#pragma unroll 1
          for (int v = 0; v < kept; v += n) {  // they come in at the end, as registers cannot be counted off by v
            Stored loaded[n];
#pragma unroll
            for (int i = 0; i < n; ++i) loaded[i] = vector(v + i);
#pragma unroll
            for (int i = first; i < last; ++i) in_register[i] = in_register[i + n * width];
#pragma unroll
            for (int i = 0; i < n * width; ++i) in_register[last + i] = widen(loaded[i / width].at[i % width]);
          }
        }
#pragma unroll at_a_time(vectors(k) - kept)
        for (int v = kept; v < vectors(k); ++v)
          in_shared[(shared_before(k) + o * (vectors(k) - kept) + v - kept) * threads] = vector(v);
      });
    });
  }

  // sums[e][m]: output m of stage k for this thread's items. `operand`: the chunk's first row, rows `stride` apart.
  // All threads of a warp call it together.
  template <int k>
  __device__ __forceinline__ void run(const Operand* operand, Real (&sums)[per_lane][Products::outputs(k)]) const {
    constexpr int outputs = Products::outputs(k), kept = in_registers(k);
    Real partial[items][outputs] = {};
    const Loaded* const mine = reinterpret_cast<const Loaded*>(operand) + lane;
    const auto multiply = [&](int v, const auto& weight) {
#pragma unroll
      for (int r = 0; r < chunk; ++r) {
        const Loaded x = mine[r * (stride / width) + v * lanes];
#pragma unroll
        for (int o = 0; o < outputs * units; ++o) {
#pragma unroll
          for (int i = 0; i < width; ++i) partial[r * units + o % units][o / units] += weight(o, i) * x.at[i];
        }
      }
    };
#pragma unroll
    for (int v = 0; v < kept; ++v)
      multiply(v, [&](int o, int i) { return in_register[registers_before(k) + (o * kept + v) * width + i]; });
#pragma unroll 2
    for (int v = kept; v < vectors(k); ++v) {
      Stored stored[outputs * units];
#pragma unroll
      for (int o = 0; o < outputs * units; ++o)
        stored[o] = in_shared[(shared_before(k) + o * (vectors(k) - kept) + v - kept) * threads];
      multiply(v, [&](int o, int i) { return widen(stored[o].at[i]); });
    }
    share_out<items, lanes>(partial);
#pragma unroll
    for (int e = 0; e < per_lane; ++e) {
#pragma unroll
      for (int m = 0; m < outputs; ++m) sums[e][m] = partial[e][m];
    }
  }

 private:
  // Sum over `left` lanes; each keeps half of the items, as long as there is more than one.
  template <int count, int left, int n, int m> __device__ __forceinline__ void share_out(Real (&partial)[n][m]) const {
    if constexpr (left > 1) {
      constexpr int apart = left / 2;
      if constexpr (count > 1) {
        constexpr int half = count / 2;
        const bool upper = lane & apart;
#pragma unroll
        for (int e = 0; e < half; ++e) {
#pragma unroll
          for (int i = 0; i < m; ++i) {
            const Real give = upper ? partial[e][i] : partial[e + half][i];
            const Real keep = upper ? partial[e + half][i] : partial[e][i];
            partial[e][i] = keep + arch::shuffle_xor(give, apart);
          }
        }
        share_out<half, apart>(partial);
      } else {
#pragma unroll
        for (int i = 0; i < m; ++i) partial[0][i] += arch::shuffle_xor(partial[0][i], apart);
        share_out<1, apart>(partial);
      }
    }
  }
};

}  // namespace rnn_gpu
