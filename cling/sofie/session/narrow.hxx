/// \file
/// Weights that are stored in fewer bits than the kernels want them in: widened while these pack them.
#ifndef SOFIE_SESSION_NARROW_HXX
#define SOFIE_SESSION_NARROW_HXX

#include "sofie/storage.hxx"
#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// A pack of stored weights as floats: bfloat16, float16, int8. Exact; they are no NaN.
template <int N, class Q>
SOFIE_INLINE PackN<float, N> load_widened(const Q *from)
{
   if constexpr (std::is_same_v<Q, BFloat16>) {
      return bits<PackN<float, N>>(convert<std::uint32_t>(load<N>(from)) << 16);
#if defined(SOFIE_X86) && SOFIE_SIMD_BYTES >= 32
   } else if constexpr (std::is_same_v<Q, Float16> && N == lanes<float>) {
      PackN<float, N> wide;
      const PackN<std::uint16_t, N> stored = load<N>(from);
      asm("vcvtph2ps %1, %0" : "=v"(wide) : "v"(stored));
      return wide;
#endif
   } else if constexpr (is_stored<Q>) {
      return widened<Q>(load<N>(from));
   } else {
      return convert<float>(load<N>(from));
   }
}

/// The tensor `V` of floats, of `Q` in the weight file: x, or x * scale where so many neighbours in a `run`
/// have the same of the scales, which begin anew behind the last one.
template <class V>
class Widened {
   Buffer<float> floats_;

public:
   template <class S>
   explicit Widened(S stored) : floats_(stored.size())
   {
      constexpr Size n = lanes<float>;
      const Size size = stored.size();
      Size i = 0;
      for (; i + n <= size; i += n)
         store(floats_.data() + i, load_widened<n>(stored.data() + i));
      for (; i < size; ++i)
         floats_.data()[i] = static_cast<float>(stored.data()[i]);
   }
   template <class S, class F>
   Widened(S stored, F scales, Size run) : Widened(stored)
   {
      const Size size = stored.size(), count = scales.size();
      for (Size i = 0; i < size; i += run * count)
         for (Size j = 0; j < count; ++j)
            for (Size k = i + j * run; k < i + (j + 1) * run; ++k)
               floats_.data()[k] *= scales.data()[j];
   }
   SOFIE_INLINE V view() const { return V(floats_.data()); }
};

} // namespace sofie

SOFIE_END

#endif
