// A team of blocks works on one tile of rows at a time; each block owns some of the hidden units. A team differs from
// another only in how a stage's operand, of which each block computes a part, comes to be seen by all of them.
//
// publish() writes a number of an exchange of so many columns; all rows of a chunk that is asked for are published, and all
// units that there are. An exchange is arrive(), with which a thread says that it has published, for so many units of its
// block, from the first on, and so many inputs of each; and wait(), after which chunk() gives the rows that were published,
// `stride` numbers apart. Between the two a thread may do what nobody waits for. Columns that nobody publishes, beyond the
// units, stay 0. begin() comes before the exchanges of a step.
//
// In shared memory two buffers alternate, so that one barrier an exchange is enough: who publishes for exchange e + 1
// writes the other buffer, and who publishes for e + 2 has passed barrier e + 1, which no thread passes before all have read
// what exchange e gave.

namespace rnn_gpu {

// One block: the operand [2, rows, stride] lies in its shared memory; the barrier is the block's.
template <class Operand, class Traits, int stride> struct BlockTeam {
  static constexpr int shared_bytes = 2 * Traits::rows * stride * int(sizeof(Operand));
  Operand* buffers;
  int parity = 0;

  template <class P> __device__ __forceinline__ BlockTeam(const P&, unsigned char* shared)
      : buffers(reinterpret_cast<Operand*>(shared)) {
    static_assert(Traits::blocks == 1, "a block is a team");
    for (int i = arch::thread_index(); i < 2 * Traits::rows * stride; i += Traits::threads) buffers[i] = Operand{};
    arch::block_barrier();  // no zero is written over what another thread has published
  }
  __device__ __forceinline__ int index() const { return arch::block_index(); }
  __device__ __forceinline__ int count() const { return arch::n_blocks(); }
  __device__ __forceinline__ int rank() const { return 0; }
  template <int> __device__ __forceinline__ void publish(int row, int column, Operand value) {
    buffers[(parity * Traits::rows + row) * stride + column] = value;
  }
  template <int, class P> __device__ __forceinline__ void begin(const P&) {}
  template <int, int> __device__ __forceinline__ void arrive(int) {}
  __device__ __forceinline__ void wait() {
    arch::block_barrier();  // every thread has published
    parity ^= 1;
  }
  template <int> __device__ __forceinline__ const Operand* chunk(int c) {
    return buffers + ((parity ^ 1) * Traits::rows + c * Traits::chunk) * stride;
  }
};

// A cluster: each block has the whole operand [2, rows, stride] in its shared memory. What a block publishes it gathers
// in its own, and then copies to the others' (distributed shared memory), 16 bytes at a time, where they are counted: a
// block goes on when the bytes of all others have come, and no barrier of the cluster is needed. Who has an exchange's bytes of
// a block knows that all threads of that block have read what the exchange before gave. Nobody stores to a block after its
// last exchange, so that a block may end at once.
template <class Operand, class Traits, int stride> struct ClusterTeam {
  static constexpr int buffer_bytes = 2 * Traits::rows * stride * int(sizeof(Operand));
  static constexpr int shared_bytes = buffer_bytes + 2 * int(sizeof(arch::ByteCounter));
  Operand* buffers;
  arch::ByteCounter* counters;  // [2], one a buffer
  int parity = 0;
  arch::uint32 phase = 0;

  template <class P> __device__ __forceinline__ ClusterTeam(const P&, unsigned char* shared)
      : buffers(reinterpret_cast<Operand*>(shared)), counters(reinterpret_cast<arch::ByteCounter*>(shared + buffer_bytes)) {
    for (int i = arch::thread_index(); i < 2 * Traits::rows * stride; i += Traits::threads) buffers[i] = Operand{};
    if (arch::thread_index() < 2) arch::begin_counting(counters + arch::thread_index());
    arch::cluster_barrier();  // every block runs, has its zeros and counts: its memory may be stored to
  }
  __device__ __forceinline__ int index() const { return arch::block_index() / Traits::blocks; }
  __device__ __forceinline__ int count() const { return arch::n_blocks() / Traits::blocks; }
  __device__ __forceinline__ int rank() const { return arch::cluster_rank(); }
  template <int> __device__ __forceinline__ void publish(int row, int column, Operand value) {
    buffers[(parity * Traits::rows + row) * stride + column] = value;
  }
  template <int, class P> __device__ __forceinline__ void begin(const P&) {}
  template <int inputs, int units> __device__ __forceinline__ void arrive(int first_unit) {
    constexpr int width = units * int(sizeof(Operand)) % 16 == 0 ? vector_size<Operand>() : 1;
    constexpr int pieces = units / width, others = Traits::blocks - 1;
    static_assert(others * units < Traits::hidden, "each block has something for the others, so that they wait for it");
    using Piece = Vector<Operand, width>;
    arch::block_barrier();  // every thread of the block has published
    if (arch::thread_index() == 0) arch::expect_bytes(counters + parity, bytes_of_others<inputs, units>(first_unit));
    constexpr int count = others * Traits::rows * inputs * pieces, turns = (count + Traits::threads - 1) / Traits::threads;
#pragma unroll(turns > 3 ? 2 : turns)  // more would take registers for the addresses of each
    for (int turn = 0; turn < turns; ++turn) {
      const int i = turn * Traits::threads + arch::thread_index();
      const int piece = i % pieces, input = i / pieces % inputs, row = i / pieces / inputs % Traits::rows;
      const int other = (rank() + 1 + i / pieces / inputs / Traits::rows) % Traits::blocks;
      const int column = first_unit + piece * width;
      if (i >= count || column >= Traits::hidden) continue;
      Operand* const from = buffers + (parity * Traits::rows + row) * stride + input * Traits::hidden + column;
      arch::store_counted(reinterpret_cast<Piece*>(from), other, *reinterpret_cast<const Piece*>(from), counters + parity);
    }
  }
  // Of an exchange, what comes from the other blocks.
  template <int inputs, int units> static __device__ __forceinline__ int bytes_of_others(int first_unit) {
    constexpr int all = Traits::blocks * units < Traits::hidden ? Traits::blocks * units : Traits::hidden;
    const int left = all - first_unit, own = left < 0 ? 0 : left < units ? left : units;
    return (all - own) * inputs * Traits::rows * int(sizeof(Operand));
  }
  __device__ __forceinline__ void wait() {
    arch::wait_for_bytes(counters + parity, phase);  // every other block's bytes have come
    phase ^= parity;
    parity ^= 1;
  }
  template <int> __device__ __forceinline__ const Operand* chunk(int c) {
    return buffers + ((parity ^ 1) * Traits::rows + c * Traits::chunk) * stride;
  }
};

// Blocks anywhere on the chip, all of which must be running: operands lie in global memory, in slots, one an exchange,
// [rows, columns], full of marks until they are published. An exchange has no barrier: each block loads a chunk again and
// again until it has no mark, and so waits for nothing but the numbers themselves. Before the first step the team marks all
// and meets; where a later one finds no slots left, it meets before that, too. A chunk is copied into the block's shared
// memory, into one of two buffers in turn: who copies the chunk after the next has passed the barrier that follows the
// copying of the next, and so has everyone stopped reading this one.
template <class Operand, class Traits, int stride> struct GridTeam {
  static constexpr int shared_bytes = 2 * Traits::chunk * stride * int(sizeof(Operand));
  static constexpr int vector = vector_size<Operand>(), slot = Traits::rows * stride;
  Operand* buffers;         // [2, chunk, stride] in shared memory
  Operand* open = nullptr;  // the slot that is published to
  int turn = 0;

  template <class P> __device__ __forceinline__ GridTeam(const P&, unsigned char* shared)
      : buffers(reinterpret_cast<Operand*>(shared)) {}
  __device__ __forceinline__ int index() const { return arch::block_index() / Traits::blocks; }
  __device__ __forceinline__ int count() const { return arch::n_blocks() / Traits::blocks; }
  __device__ __forceinline__ int rank() const { return arch::block_index() % Traits::blocks; }
  template <int exchanges, class P> __device__ __forceinline__ void begin(const P& p) {
    Operand* const first = static_cast<Operand*>(p.exchange) + (long long)index() * p.slots * slot;
    if (!open || open + exchanges * slot > first + p.slots * slot) {
      if (open) meet(p);  // every block has read all that was published
      open = first;
      mark_all(p);
      meet(p);  // every mark is there
    }
  }
  template <int columns> __device__ __forceinline__ void publish(int row, int column, Operand value) {
    arch::store_exchanged(open + row * columns + column, unmarked(value));
  }
  template <int, int> __device__ __forceinline__ void arrive(int) {}
  __device__ __forceinline__ void wait() { open += slot; }
  template <int columns> __device__ __forceinline__ const Operand* chunk(int c) {
    static_assert(columns % vector == 0 && stride % vector == 0);
    constexpr int all = Traits::chunk * columns / vector, turns = (all + Traits::threads - 1) / Traits::threads;
    constexpr int together = turns < 4 ? turns : 4;  // loads under way at a time
    constexpr bool whole = all % (together * Traits::threads) == 0;
    const arch::Bytes16* const from = reinterpret_cast<const arch::Bytes16*>(open - slot + c * Traits::chunk * columns);
    Operand* const to = buffers + turn * Traits::chunk * stride;
    turn ^= 1;
    for (int first = arch::thread_index(); first < all; first += together * Traits::threads) {
      arch::Bytes16 loaded[together];
      bool missing = true;  // which of them, takes registers to know: all are loaded again
      while (missing) {
        missing = false;
#pragma unroll
        for (int n = 0; n < together; ++n) {
          const int i = first + n * Traits::threads;
          if (whole || i < all) loaded[n] = arch::load_exchanged<Operand>(from + i);
        }
#pragma unroll
        for (int n = 0; n < together; ++n) {
          if (whole || first + n * Traits::threads < all) missing |= any_marked<Operand>(loaded[n]);
        }
        if (missing) arch::look_again();
      }
#pragma unroll
      for (int n = 0; n < together; ++n) {
        const int i = first + n * Traits::threads, row = i / (columns / vector), column = i % (columns / vector) * vector;
        if (whole || i < all) *reinterpret_cast<arch::Bytes16*>(to + row * stride + column) = loaded[n];
      }
    }
    arch::block_barrier();  // the chunk is there
    return to;
  }

  // Goes on when every thread of the team has come: what they stored is seen, and what they loaded may be stored to.
  template <class P> __device__ __forceinline__ void meet(const P& p) {
    arch::block_barrier();  // every thread of the block has come
    if (arch::thread_index() == 0) {
      arch::uint32* const counter = p.counters + index();
      arch::uint32 before = 0;
      before = arch::arrive_release(counter);
      const arch::uint32 all = before - before % Traits::blocks + Traits::blocks;
      while (int(arch::read_acquire(counter) - all) < 0) {
      }
    }
    arch::block_barrier();  // every block has arrived
  }

 private:
  // The team together: marks where units publish, zeros elsewhere.
  template <class P> __device__ __forceinline__ void mark_all(const P& p) {
#pragma unroll 1
    for (int i = rank() * Traits::threads + arch::thread_index(); i < p.slots * (slot / vector);
         i += Traits::blocks * Traits::threads) {
      const int place = i % (slot / vector) * vector;  // rows are whole multiples of Traits::hidden
      arch::store_exchanged(reinterpret_cast<arch::Bytes16*>(open) + i,
                            marks<Operand>([&](int n) { return (place + n) % Traits::hidden < p.hidden; }));
    }
  }
};

enum class Strategy { block, cluster, grid };

template <Strategy strategy, class Operand, class Traits, int stride> struct TeamOf;
template <class Operand, class Traits, int stride> struct TeamOf<Strategy::block, Operand, Traits, stride> {
  using type = BlockTeam<Operand, Traits, stride>;
};
template <class Operand, class Traits, int stride> struct TeamOf<Strategy::cluster, Operand, Traits, stride> {
  using type = ClusterTeam<Operand, Traits, stride>;
};
template <class Operand, class Traits, int stride> struct TeamOf<Strategy::grid, Operand, Traits, stride> {
  using type = GridTeam<Operand, Traits, stride>;
};

}  // namespace rnn_gpu
