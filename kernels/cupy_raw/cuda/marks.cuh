// A number that has not been published is the mark: all of its bits are 1, which is a NaN. A NaN that looks like it is
// published as another, so that a number tells by itself whether it has been, and no flag or barrier has to. The idea of
// data that say whether they have come: the LL protocol of NCCL, which has a flag with every 4 bytes.

namespace rnn_gpu {

// The unsigned integer as large as T.
template <int bytes> struct BitsOf;
template <> struct BitsOf<2> { using type = arch::uint16; };
template <> struct BitsOf<4> { using type = arch::uint32; };
template <> struct BitsOf<8> { using type = arch::uint64; };
template <class T> using Bits = typename BitsOf<int(sizeof(T))>::type;

// 16 bytes of marks, but of zeros where `is`, of the number's place, is false.
template <class T, class Is> __device__ __forceinline__ arch::Bytes16 marks(const Is& is) {
  Vector<Bits<T>, vector_size<T>()> numbers;
#pragma unroll
  for (int i = 0; i < vector_size<T>(); ++i) numbers.at[i] = is(i) ? Bits<T>(~Bits<T>(0)) : Bits<T>(0);
  arch::Bytes16 bytes;
  memcpy(&bytes, &numbers, 16);
  return bytes;
}

// The same number, but no mark.
template <class T> __device__ __forceinline__ T unmarked(T value) {
  Bits<T> bits;
  memcpy(&bits, &value, sizeof(T));
  if (bits == Bits<T>(~Bits<T>(0))) bits = Bits<T>(~Bits<T>(0)) >> 1;
  memcpy(&value, &bits, sizeof(T));
  return value;
}

// Whether any number of these is the mark.
template <class T> __device__ __forceinline__ bool any_marked(const arch::Bytes16& numbers) {
  const arch::uint32(&w)[4] = numbers.words;
  if constexpr (sizeof(T) == 8) {
    return (w[0] & w[1]) == ~0u || (w[2] & w[3]) == ~0u;
  } else if constexpr (sizeof(T) == 4) {
    return w[0] == ~0u || w[1] == ~0u || w[2] == ~0u || w[3] == ~0u;
  } else {
    arch::uint32 found = 0;  // of x = ~w, whose halves are 0 where there is a mark: (x - 1) & ~x, in each half
#pragma unroll
    for (int i = 0; i < 4; ++i) found |= (~w[i] - 0x00010001u) & w[i];
    return found & 0x80008000u;
  }
}

}  // namespace rnn_gpu
