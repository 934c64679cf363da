// The functions that an emitted cell calls, in float and in double. Accurate to a few units in the last place.

namespace rnn_gpu {
namespace cells {

__device__ __forceinline__ float exp(float x) { return ::expf(x); }
__device__ __forceinline__ double exp(double x) { return ::exp(x); }
__device__ __forceinline__ float log(float x) { return ::logf(x); }
__device__ __forceinline__ double log(double x) { return ::log(x); }
__device__ __forceinline__ float log1p(float x) { return ::log1pf(x); }
__device__ __forceinline__ double log1p(double x) { return ::log1p(x); }
__device__ __forceinline__ float sqrt(float x) { return ::sqrtf(x); }
__device__ __forceinline__ double sqrt(double x) { return ::sqrt(x); }
__device__ __forceinline__ float sin(float x) { return ::sinf(x); }
__device__ __forceinline__ double sin(double x) { return ::sin(x); }
__device__ __forceinline__ float cos(float x) { return ::cosf(x); }
__device__ __forceinline__ double cos(double x) { return ::cos(x); }
__device__ __forceinline__ float tanh(float x) { return ::tanhf(x); }
__device__ __forceinline__ double tanh(double x) { return ::tanh(x); }
__device__ __forceinline__ float abs(float x) { return ::fabsf(x); }
__device__ __forceinline__ double abs(double x) { return ::fabs(x); }

// exp overflows to inf for large -x: 1 / inf = 0 is the right answer.
template <class T> __device__ __forceinline__ T sigmoid(T x) { return arch::reciprocal(T(1) + exp(-x)); }
template <class T> __device__ __forceinline__ T softplus(T x) {
  return x > T(0) ? x + log1p(exp(-x)) : log1p(exp(x));
}
// Each passes a NaN on.
template <class T> __device__ __forceinline__ T relu(T x) { return x < T(0) ? T(0) : x; }
template <class T> __device__ __forceinline__ T sign(T x) { return x > T(0) ? T(1) : x < T(0) ? T(-1) : x; }
template <class T> __device__ __forceinline__ T maximum(T a, T b) { return a >= b || a != a ? a : b; }
template <class T> __device__ __forceinline__ T minimum(T a, T b) { return a <= b || a != a ? a : b; }

}  // namespace cells
}  // namespace rnn_gpu
