// Stands in for kernels/cupy_raw/cuda/arch.cuh where kernels are executed on the CPU: the same names, on threads that
// runtime.cpp schedules. It comes before a kernel's source.
//
// A thread may be suspended wherever it waits, and before it stores to or loads from what other blocks see. What it
// stores there becomes visible when its block arrives at the barrier that publishes it, or late, and then not in order.
#define RNN_GPU_ARCH
#define RNN_GPU_EMULATION

#include <cmath>
#include <cstring>

#define __device__
#define __global__
#define __forceinline__ inline

// A kernel is called with the address of its argument.
#define RNN_GPU_KERNEL(name, threads, Arguments)                                                      \
  static_assert(threads % 32 == 0 && threads <= 1024);                                                \
  static void name##_thread(const Arguments& p);                                                      \
  extern "C" void name(const void* p) { name##_thread(*static_cast<const Arguments*>(p)); }           \
  static void name##_thread(const Arguments& p)
#define RNN_GPU_CLUSTER_KERNEL(name, threads, blocks, Arguments) \
  static_assert(blocks >= 1 && blocks <= 16);                    \
  RNN_GPU_KERNEL(name, threads, Arguments)

extern "C" {
// Of the thread that runs.
struct RnnGpuThread {
  int thread, threads, block, blocks, rank;
  unsigned char* shared;
};
extern RnnGpuThread rnn_gpu_thread;

void rnn_gpu_block_barrier();
void rnn_gpu_cluster_barrier();
void rnn_gpu_begin_counting(void* counter);
void rnn_gpu_expect_bytes(void* counter, unsigned bytes);
void rnn_gpu_wait_for_bytes(void* counter, unsigned phase);
void rnn_gpu_store_counted(void* here, int rank, const void* value, int bytes, void* counter);
void* rnn_gpu_warp_barrier(const void* mine, int bytes);  // what the lanes gave, 64 bytes each
void rnn_gpu_store_exchanged(void* address, const void* value, int bytes);
void rnn_gpu_prefetch(const void* begin, int bytes);
void rnn_gpu_maybe_suspend();
void rnn_gpu_look_again();
unsigned rnn_gpu_arrive_release(unsigned* counter);
unsigned rnn_gpu_read_acquire(const unsigned* counter);
}

namespace rnn_gpu {

struct Half;
struct BFloat16;

namespace arch {

using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;

inline int thread_index() { return rnn_gpu_thread.thread; }
inline int n_threads() { return rnn_gpu_thread.threads; }
inline int block_index() { return rnn_gpu_thread.block; }
inline int n_blocks() { return rnn_gpu_thread.blocks; }
inline unsigned char* shared_memory() { return rnn_gpu_thread.shared; }

inline uint32 bits_of(float x) {
  uint32 bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float float_of(uint32 bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline uint16 to_half(float x) {
  const _Float16 half = static_cast<_Float16>(x);
  uint16 bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}
inline float from_half(uint16 bits) {
  _Float16 half;
  std::memcpy(&half, &bits, 2);
  return static_cast<float>(half);
}
inline uint16 to_bfloat16(float x) {
  if (x != x) return 0x7fff;
  const uint32 bits = bits_of(x);
  return static_cast<uint16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline float from_bfloat16(uint16 bits) { return float_of(static_cast<uint32>(bits) << 16); }
inline float to_tf32(float x) { return x - x != 0 ? x : float_of((bits_of(x) + 0x1000) & 0xffffe000u); }

inline int kept(int x) { return x; }

template <class T> T reciprocal(T x) { return T(1) / x; }

template <class T> T shuffle_xor(T value, int lanes) {
  const char* given = static_cast<const char*>(rnn_gpu_warp_barrier(&value, sizeof(T)));
  T other;
  std::memcpy(&other, given + 64 * ((thread_index() % 32) ^ lanes), sizeof(T));
  return other;
}

inline void block_barrier() { rnn_gpu_block_barrier(); }
inline int cluster_rank() { return rnn_gpu_thread.rank; }
inline void cluster_barrier() { rnn_gpu_cluster_barrier(); }

struct ByteCounter {
  uint64 state;
};
inline void begin_counting(ByteCounter* counter) { rnn_gpu_begin_counting(counter); }
inline void expect_bytes(ByteCounter* counter, uint32 bytes) { rnn_gpu_expect_bytes(counter, bytes); }
inline void wait_for_bytes(ByteCounter* counter, uint32 phase) { rnn_gpu_wait_for_bytes(counter, phase); }
template <class T> void store_counted(T* here, int rank, const T& value, ByteCounter* counter) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  rnn_gpu_store_counted(here, rank, &value, sizeof(T), counter);
}

inline uint32 arrive_release(uint32* counter) { return rnn_gpu_arrive_release(counter); }
inline uint32 read_acquire(const uint32* counter) { return rnn_gpu_read_acquire(counter); }
inline void prefetch(const void* address) { rnn_gpu_prefetch(address, 1); }
inline void prefetch_array(const void* begin, int bytes) { rnn_gpu_prefetch(begin, bytes); }

struct alignas(16) Bytes16 {
  uint32 words[4];
};
template <class T> void store_exchanged(T* address, const T& value) {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  rnn_gpu_store_exchanged(address, &value, sizeof(T));
}
template <class T> Bytes16 load_exchanged(const Bytes16* address) {
  rnn_gpu_maybe_suspend();
  return *address;
}
inline void look_again() { rnn_gpu_look_again(); }

// The numbers in 32 bits of a fragment, and how many there are.
template <class Operand> struct Packed;
template <> struct Packed<Half> {
  static constexpr int count = 2;
  static float at(uint32 bits, int i) { return from_half(static_cast<uint16>(bits >> (16 * i))); }
};
template <> struct Packed<BFloat16> {
  static constexpr int count = 2;
  static float at(uint32 bits, int i) { return from_bfloat16(static_cast<uint16>(bits >> (16 * i))); }
};
template <> struct Packed<float> {
  static constexpr int count = 1;
  static float at(uint32 bits, int) { return float_of(bits & 0xffffe000u); }  // what tensor cores read of a float
};

// d += a b, as the PTX ISA lays out the fragments: thread 4 g + c of a warp has, in a, rows g and g + 8 and in b, column
// g; of both the numbers from c on, and those half of the columns of a further on; in d, rows g and g + 8, columns 2 c
// and 2 c + 1.
template <class Operand>
void mma(float (&d)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1) {
  const uint32 mine[6] = {a0, a1, a2, a3, b0, b1};
  const char* given = static_cast<const char*>(rnn_gpu_warp_barrier(mine, sizeof(mine)));
  const auto word = [&](int lane, int i) {
    uint32 bits;
    std::memcpy(&bits, given + 64 * lane + 4 * i, 4);
    return bits;
  };
  const int lane = thread_index() % 32;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    float sum = 0;
    for (int half = 0; half < 2; ++half)
      for (int c = 0; c < 4; ++c)
        for (int n = 0; n < Packed<Operand>::count; ++n)
          sum += Packed<Operand>::at(word(row % 8 * 4 + c, row / 8 + half * 2), n) *
                 Packed<Operand>::at(word(column * 4 + c, 4 + half), n);
    d[i] += sum;
  }
}

}  // namespace arch
}  // namespace rnn_gpu
