// Number types: what is stored (double, float, Half, BFloat16), what is computed with (Working<T>), and 16-byte vectors.

namespace rnn_gpu {

struct Half {
  arch::uint16 bits;
};
struct BFloat16 {
  arch::uint16 bits;
};

template <class T> struct WorkingOf { using type = T; };
template <> struct WorkingOf<Half> { using type = float; };
template <> struct WorkingOf<BFloat16> { using type = float; };

// The type that numbers stored as T are computed with, and that states have.
template <class T> using Working = typename WorkingOf<T>::type;

__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(Half x) { return arch::from_half(x.bits); }
__device__ __forceinline__ float widen(BFloat16 x) { return arch::from_bfloat16(x.bits); }

template <class T> struct Round { static __device__ __forceinline__ T to(T x) { return x; } };
template <> struct Round<Half> { static __device__ __forceinline__ Half to(float x) { return {arch::to_half(x)}; } };
template <> struct Round<BFloat16> {
  static __device__ __forceinline__ BFloat16 to(float x) { return {arch::to_bfloat16(x)}; }
};

template <class T> __device__ __forceinline__ T rounded(Working<T> x) { return Round<T>::to(x); }

// n numbers that are loaded and stored at once.
template <class T, int n> struct alignas(sizeof(T) * n) Vector {
  T at[n];
};

template <class T> __device__ constexpr int vector_size() { return 16 / int(sizeof(T)); }

// An array of n registers; where n is 0 it has one that nobody uses.
template <class T, int n> struct Registers {
  T at[n > 0 ? n : 1];
  __device__ __forceinline__ T& operator[](int i) { return at[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return at[i]; }
};

// Of so many loads that nothing waits for, those to have under way together: more would take registers that are wanted.
__device__ constexpr int at_a_time(int loads) { return loads % 2 == 0 ? 2 : 1; }

template <int k> struct Index { static constexpr int value = k; };

// body(Index<0>()), body(Index<1>()) ... body(Index<n - 1>())
template <int n, int k = 0, class Body> __device__ __forceinline__ void unrolled(const Body& body) {
  if constexpr (k < n) {
    body(Index<k>());
    unrolled<n, k + 1>(body);
  }
}

// body(item, chunk, element) for each of a thread's items [chunks, elements]; all indices are known to the compiler.
template <int chunks, int elements, class Item, class Body>
__device__ __forceinline__ void each(Item (&items)[chunks][elements], const Body& body) {
  unrolled<chunks>([&](auto chunk) {
    unrolled<elements>([&](auto element) {
      body(items[decltype(chunk)::value][decltype(element)::value], decltype(chunk)::value, decltype(element)::value);
    });
  });
}

}  // namespace rnn_gpu
