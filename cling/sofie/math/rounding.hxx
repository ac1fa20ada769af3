/// \file
/// Functions of packs of float or double that are exact, or rounded correctly.
#ifndef SOFIE_MATH_ROUNDING_HXX
#define SOFIE_MATH_ROUNDING_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// The bits of a fraction.
template <class T>
inline constexpr int mantissa_bits = sizeof(T) == 4 ? 23 : 52;

/// The smaller of the two; NaN where `a` is.
template <class V>
SOFIE_INLINE V at_most(V a, ElementOf<V> b)
{
   return select<V>(a > splat<V>(b), splat<V>(b), a);
}

/// The larger of the two; NaN where `a` is.
template <class V>
SOFIE_INLINE V at_least(V a, ElementOf<V> b)
{
   return select<V>(a < splat<V>(b), splat<V>(b), a);
}

/// `|x|`: exact.
template <class V>
SOFIE_INLINE V abs(V x)
{
   return bits<V>(bits<MaskOf<V>>(x) & ~bits<MaskOf<V>>(splat<V>(-0.0f)));
}

/// `magnitude` with the sign bit of `sign`: exact.
template <class V>
SOFIE_INLINE V copysign(V magnitude, V sign)
{
   const MaskOf<V> sign_bit = bits<MaskOf<V>>(splat<V>(-0.0f));
   return bits<V>((bits<MaskOf<V>>(magnitude) & ~sign_bit) | (bits<MaskOf<V>>(sign) & sign_bit));
}

/// The nearest integer, the even one of two: exact.
template <class V>
SOFIE_INLINE V round_even(V x)
{
   // From here on all numbers are integers: adding it rounds.
   constexpr auto whole = static_cast<ElementOf<V>>(1ll << mantissa_bits<ElementOf<V>>);
   const V size = abs(x);
   const V rounded = (size + splat<V>(whole)) - splat<V>(whole);
   return select<V>(size < splat<V>(whole), copysign(rounded, x), x);
}

/// The largest integer `<= x`: exact.
template <class V>
SOFIE_INLINE V floor(V x)
{
   const V rounded = round_even(x);
   return rounded - select<V>(rounded > x, splat<V>(1), V{});
}

/// The smallest integer `>= x`: exact.
template <class V>
SOFIE_INLINE V ceil(V x)
{
   return -floor(-x);
}

/// `x` without its fraction: exact.
template <class V>
SOFIE_INLINE V trunc(V x)
{
   return copysign(floor(abs(x)), x);
}

/// sqrt(x): rounded correctly.
///
/// A loop would call the C library for errno's sake, so the instruction is asked for by name.
template <class V>
SOFIE_INLINE V sqrt(V x)
{
#if __has_builtin(__builtin_elementwise_sqrt)
   return __builtin_elementwise_sqrt(x);
#else
   using T = ElementOf<V>;
#if defined(__AVX512F__) && !defined(__clang__)
   if constexpr (std::is_same_v<V, PackN<float, 16>>)
      return __builtin_ia32_sqrtps512_mask(x, x, -1, 4); // all elements; round as the mode says
   if constexpr (std::is_same_v<V, PackN<double, 8>>)
      return __builtin_ia32_sqrtpd512_mask(x, x, -1, 4);
#endif
#if defined(__AVX__) && !defined(__clang__)
   if constexpr (std::is_same_v<V, PackN<float, 8>>)
      return __builtin_ia32_sqrtps256(x);
   if constexpr (std::is_same_v<V, PackN<double, 4>>)
      return __builtin_ia32_sqrtpd256(x);
#endif
#if defined(__SSE2__) && !defined(__clang__)
   if constexpr (std::is_same_v<V, PackN<float, 4>>)
      return __builtin_ia32_sqrtps(x);
   if constexpr (std::is_same_v<V, PackN<double, 2>>)
      return __builtin_ia32_sqrtpd(x);
#endif
#if defined(__aarch64__) && !defined(__clang__)
   if constexpr (std::is_same_v<V, PackN<float, 4>>)
      return __builtin_aarch64_sqrtv4sf(x);
   if constexpr (std::is_same_v<V, PackN<double, 2>>)
      return __builtin_aarch64_sqrtv2df(x);
#endif
   if constexpr (width<V> > 1) {
      PackN<T, width<V> / 2> halves[2];
      __builtin_memcpy(halves, &x, sizeof(V));
      halves[0] = sqrt(halves[0]);
      halves[1] = sqrt(halves[1]);
      __builtin_memcpy(&x, halves, sizeof(V));
   } else if constexpr (std::is_same_v<T, float>) {
      x[0] = __builtin_sqrtf(x[0]);
   } else {
      x[0] = __builtin_sqrt(x[0]);
   }
   return x;
#endif
}

} // namespace sofie

SOFIE_END

#endif
