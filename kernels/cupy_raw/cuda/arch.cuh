// What the hardware offers beyond C++: the one place with PTX. Where the kernels are executed on a CPU, a stand-in for
// this file comes first and defines RNN_GPU_ARCH.
#ifndef RNN_GPU_ARCH
#define RNN_GPU_ARCH

#define RNN_GPU_KERNEL(name, threads, Arguments) \
  extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ Arguments p)

#define RNN_GPU_CLUSTER_KERNEL(name, threads, blocks, Arguments) \
  extern "C" __global__ void __cluster_dims__(blocks, 1, 1) __launch_bounds__(threads, 1) \
      name(const __grid_constant__ Arguments p)

namespace rnn_gpu {

struct Half;
struct BFloat16;

namespace arch {

using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;

// ---- where a thread is ----

__device__ __forceinline__ int thread_index() { return threadIdx.x; }
__device__ __forceinline__ int n_threads() { return blockDim.x; }
__device__ __forceinline__ int block_index() { return blockIdx.x; }
__device__ __forceinline__ int n_blocks() { return gridDim.x; }

// The block's dynamic shared memory, aligned to 128 bytes.
__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char rnn_gpu_shared_memory[];
  return rnn_gpu_shared_memory;
}

// ---- 16-bit numbers ----

__device__ __forceinline__ uint16 to_half(float x) {
  uint16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
__device__ __forceinline__ float from_half(uint16 bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
__device__ __forceinline__ uint16 to_bfloat16(float x) {
  uint16 bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}
__device__ __forceinline__ float from_bfloat16(uint16 bits) { return __uint_as_float(uint32(bits) << 16); }

// float32 with the mantissa of TensorFloat-32, rounded to nearest.
__device__ __forceinline__ float to_tf32(float x) {
  uint32 bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
}

// ---- registers ----

// The same number, in a register: the compiler would compute anew at each use what is quickly computed.
__device__ __forceinline__ int kept(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

// ---- arithmetic ----

// 1 / x for x >= 1, within a unit in the last place; 0 where that is below the smallest normal number.
__device__ __forceinline__ float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ double reciprocal(double x) { return 1.0 / x; }

// ---- within a warp ----

template <class T>
__device__ __forceinline__ T shuffle_xor(T value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}

// ---- within a block ----

__device__ __forceinline__ void block_barrier() { __syncthreads(); }

// ---- within a cluster (sm_90) ----

// This block's rank in its cluster.
__device__ __forceinline__ int cluster_rank() {
  int rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// What the cluster's threads stored before it, in any block's shared memory, is seen by all of them after it.
__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

__device__ __forceinline__ uint32 shared_address(const void* here) { return uint32(__cvta_generic_to_shared(here)); }

// The address that `here` has in this block, in block `rank`.
__device__ __forceinline__ uint32 remote_address(const void* here, int rank) {
  uint32 address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(here)), "r"(rank));
  return address;
}

// A counter of bytes in shared memory (an mbarrier). It passes from one phase to the next, 0 and 1 in turn, when as many
// have come as were expected, and waits for one thread to say how many.
struct ByteCounter {
  uint64 state;
};
__device__ __forceinline__ void begin_counting(ByteCounter* counter) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\n\tfence.mbarrier_init.release.cluster;" ::"r"(
                   shared_address(counter))
               : "memory");
}
__device__ __forceinline__ void expect_bytes(ByteCounter* counter, uint32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(counter)), "r"(bytes)
               : "memory");
}
// Returns when the phase has passed; what was stored and counted for it is seen after this.
__device__ __forceinline__ void wait_for_bytes(ByteCounter* counter, uint32 phase) {
  uint32 passed;
  do {
    asm volatile(
        "{\n\t.reg .pred p;\n\t"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, p;\n\t}"
        : "=r"(passed)
        : "r"(shared_address(counter)), "r"(phase)
        : "memory");
  } while (!passed);
}

// Store into the shared memory of block `rank`, at the address that `here` has in this block, and count the bytes there.
template <class T>
__device__ __forceinline__ void store_counted(T* here, int rank, const T& value, ByteCounter* counter) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  const uint32 address = remote_address(here, rank), counted = remote_address(counter, rank);
  uint32 bits[sizeof(T) / 4];
  memcpy(bits, &value, sizeof(T));
  if constexpr (sizeof(T) == 4) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address),
                 "r"(bits[0]), "r"(counted)
                 : "memory");
  } else if constexpr (sizeof(T) == 8) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(address),
                 "r"(bits[0]), "r"(bits[1]), "r"(counted)
                 : "memory");
  } else {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                     address),
                 "r"(bits[0]), "r"(bits[1]), "r"(bits[2]), "r"(bits[3]), "r"(counted)
                 : "memory");
  }
}

// ---- across the chip ----

// Adds one to a counter, after everything that this thread, and by a block barrier its block, has stored. Returns what it
// was before.
__device__ __forceinline__ uint32 arrive_release(uint32* counter) {
  uint32 before;
  asm volatile("atom.release.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}

// The counter; what was stored before the arrivals that it counts is seen after this.
__device__ __forceinline__ uint32 read_acquire(const uint32* counter) {
  uint32 count;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(count) : "l"(counter) : "memory");
  return count;
}

// Begin to bring what lies there into the L2 cache.
__device__ __forceinline__ void prefetch(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(address)));
}

// The same of all whole groups of 16 bytes that lie there (sm_90).
__device__ __forceinline__ void prefetch_array(const void* begin, int bytes) {
#if __CUDA_ARCH__ >= 900
  const uint64 address = __cvta_generic_to_global(begin);
  const uint64 first = (address + 15) & ~uint64(15), end = (address + bytes) & ~uint64(15);
  if (first < end) asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(first), "r"(uint32(end - first)));
#endif
}

struct alignas(16) Bytes16 {
  uint32 words[4];
};

// Stores that other blocks read in this launch, and such loads: they go to the L2 cache that all blocks share. A number is
// seen whole, of 16 bits by what the hardware does, of 32 and 64 as PTX has it: it is loaded as it was stored. Of an address
// the last store is seen; in which order those to different addresses come to be seen is not said.
template <class T>
__device__ __forceinline__ void store_exchanged(T* address, const T& value) {
  if constexpr (sizeof(T) == 2) {
    uint16 bits;
    memcpy(&bits, &value, 2);
    asm volatile("st.relaxed.gpu.global.b16 [%0], %1;" ::"l"(address), "h"(bits) : "memory");
  } else if constexpr (sizeof(T) == 4) {
    uint32 bits;
    memcpy(&bits, &value, 4);
    asm volatile("st.relaxed.gpu.global.b32 [%0], %1;" ::"l"(address), "r"(bits) : "memory");
  } else if constexpr (sizeof(T) == 8) {
    uint64 bits;
    memcpy(&bits, &value, 8);
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(address), "l"(bits) : "memory");
  } else {
    static_assert(sizeof(T) == 16);
    uint64 bits[2];
    memcpy(bits, &value, 16);
    asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};" ::"l"(address), "l"(bits[0]), "l"(bits[1]) : "memory");
  }
}
template <class T>
__device__ __forceinline__ Bytes16 load_exchanged(const Bytes16* address) {
  Bytes16 value;
  if constexpr (sizeof(T) == 8) {
    uint64 bits[2];
    asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];" : "=l"(bits[0]), "=l"(bits[1]) : "l"(address) : "memory");
    memcpy(&value, bits, 16);
  } else {
    asm volatile("ld.relaxed.gpu.global.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.words[0]), "=r"(value.words[1]), "=r"(value.words[2]), "=r"(value.words[3])
                 : "l"(address)
                 : "memory");
  }
  return value;
}

// Between two looks at what others have yet to store.
__device__ __forceinline__ void look_again() {}

// ---- tensor cores (sm_80) ----

// d += a b on 16 x 8 numbers, a warp together: m16n8k16 of Half or BFloat16, m16n8k8 of float as TensorFloat-32.
template <class Operand>
__device__ __forceinline__ void mma(float (&d)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, uint32 b1);

#define RNN_GPU_MMA(Operand, shape)                                                                              \
  template <>                                                                                                    \
  __device__ __forceinline__ void mma<Operand>(float (&d)[4], uint32 a0, uint32 a1, uint32 a2, uint32 a3, uint32 b0, \
                                               uint32 b1) {                                                      \
    asm volatile("mma.sync.aligned." shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"    \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));                                        \
  }
RNN_GPU_MMA(Half, "m16n8k16.row.col.f32.f16.f16.f32")
RNN_GPU_MMA(BFloat16, "m16n8k16.row.col.f32.bf16.bf16.f32")
RNN_GPU_MMA(float, "m16n8k8.row.col.f32.tf32.tf32.f32")
#undef RNN_GPU_MMA

}  // namespace arch
}  // namespace rnn_gpu

#endif
