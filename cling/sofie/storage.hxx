/// \file
/// Numbers of few bits: half precision, eight bits and fewer. They are stored and converted;
/// all arithmetic is that of the float or the int32 that each is exactly.
#ifndef SOFIE_STORAGE_HXX
#define SOFIE_STORAGE_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// What a conversion to floating-point numbers of few bits does where there is a choice.
struct CastRounding {
   /// Numbers beyond the largest become that one, in types of eight bits; else infinity or NaN.
   bool saturate = true;
   /// Of powers of two: 0 to the one above, 1 to the one below, 2 to the nearer one.
   int mode = 0;
};

/// Which numbers the largest codes of a format stand for.
enum class SpecialCodes {
   ieee,     ///< infinity and NaN
   one_nan,  ///< NaN only where all bits are set
   sign_nan, ///< NaN only where -0 would be
   none      ///< all are finite
};

using Code = std::uint32_t;

/// 2^n as a constant.
constexpr float two_to_the(int n)
{
   float value = 1;
   for (; n > 0; --n)
      value *= 2;
   for (; n < 0; ++n)
      value /= 2;
   return value;
}

/// A sign, `Exponent` bits with this bias, and `Mantissa` bits; the lowest bits of `Raw`.
template <class Raw, int Exponent, int Mantissa, int Bias, SpecialCodes special>
struct FloatFormat {
   using Bits = Raw;
   using Wide = float;
   static constexpr int shift = 23 - Mantissa;
   static constexpr Code ones = (1u << (Exponent + Mantissa)) - 1;
   static constexpr Code infinity = ((1u << Exponent) - 1) << Mantissa;
   static constexpr Code sign = ones + 1;
   static constexpr Code nan = special == SpecialCodes::ieee       ? infinity | (1u << (Mantissa - 1))
                               : special == SpecialCodes::one_nan  ? ones
                               : special == SpecialCodes::sign_nan ? sign
                                                                   : 0;
   static constexpr Code largest = special == SpecialCodes::ieee      ? infinity - 1
                                   : special == SpecialCodes::one_nan ? ones - 1
                                                                      : ones;

   template <int N>
   SOFIE_INLINE static PackN<float, N> widen(PackN<Code, N> raw)
   {
      using U = PackN<Code, N>;
      using V = PackN<float, N>;
      const U code = raw & ones;
      U found = code << shift;
      if constexpr (Bias != 127) {
         constexpr Code least = 1u << Mantissa;
         constexpr Code offset = static_cast<Code>(127 - Bias) << 23;
         const V denormal = convert<float>(code) * splat<V>(two_to_the(1 - Bias - Mantissa));
         found = select(code < splat<U>(least), bits<U>(denormal), found + offset);
      }
      if constexpr (special == SpecialCodes::ieee)
         found = select(code >= splat<U>(infinity), (code << shift) | 0x7f800000u, found);
      if constexpr (special == SpecialCodes::one_nan)
         found = select(code == splat<U>(ones), splat<U>(0x7fc00000u), found);
      found |= (raw & sign) << (31 - Exponent - Mantissa);
      if constexpr (special == SpecialCodes::sign_nan)
         found = select((raw & (sign | ones)) == splat<U>(sign), splat<U>(0x7fc00000u), found);
      return bits<V>(found);
   }

   /// To the nearest number, from the middle to the even one.
   template <int N>
   SOFIE_INLINE static PackN<Code, N> narrow(PackN<float, N> x, CastRounding rounding)
   {
      using U = PackN<Code, N>;
      using V = PackN<float, N>;
      const U all = bits<U>(x);
      const U size = all & 0x7fffffffu;
      constexpr Code below_half = (1u << (shift - 1)) - 1;
      constexpr Code offset = static_cast<Code>(127 - Bias) << Mantissa;
      U code = ((size + below_half + ((size >> shift) & 1u)) >> shift) - offset;
      if constexpr (Bias != 127) {
         // The sum's lowest bit is the least number of the format: adding rounds to its multiples.
         constexpr float grid = two_to_the(1 - Bias - Mantissa + 23);
         const U denormal = bits<U>(bits<V>(size) + splat<V>(grid)) - bits<U>(splat<V>(grid));
         code = select(size < splat<U>(static_cast<Code>(128 - Bias) << 23), denormal, code);
      }
      constexpr bool always = special == SpecialCodes::none;
      constexpr bool eight = sizeof(Raw) == 1;
      const Code beyond = always || (eight && rounding.saturate) ? largest
                          : special == SpecialCodes::ieee        ? infinity
                                                                 : nan;
      code = select(code > splat<U>(largest), splat<U>(beyond), code);
      U negative = (all >> (31 - Exponent - Mantissa)) & sign;
      if constexpr (special == SpecialCodes::sign_nan)
         negative = select((code == U{}) | (code == splat<U>(sign)), U{}, negative);
      return select(size > splat<U>(0x7f800000u), splat<U>(always ? sign : nan), code | negative);
   }
};

/// Powers of two from 2^-127 to 2^127, and NaN.
struct PowerFormat {
   using Bits = std::uint8_t;
   using Wide = float;

   template <int N>
   SOFIE_INLINE static PackN<float, N> widen(PackN<Code, N> raw)
   {
      using U = PackN<Code, N>;
      const U special = select(raw == U{}, splat<U>(0x00400000u), splat<U>(0x7fc00000u));
      return bits<PackN<float, N>>(select((raw == U{}) | (raw == splat<U>(255)), special, raw << 23));
   }

   /// Of a negative number: as of its magnitude.
   template <int N>
   SOFIE_INLINE static PackN<Code, N> narrow(PackN<float, N> x, CastRounding rounding)
   {
      using U = PackN<Code, N>;
      const U size = bits<U>(x) & 0x7fffffffu;
      // Up to the next power, from half of the distance on, or never.
      const Code added = rounding.mode == 0 ? 0x7fffffu : rounding.mode == 2 ? 0x400000u : 0u;
      U code = (size + added) >> 23;
      const MaskOf<U> below = size < splat<U>(0x00400000u); // 2^-127, which is a denormal float
      code = select(size <= splat<U>(0x00400000u), U{}, code);
      if (rounding.mode == 2) // The middle of 2^-127 and 2^-126
         code = select((size < splat<U>(0x00800000u)), (size + 0x00200000u) >> 23, code);
      const MaskOf<U> above = code > splat<U>(254);
      code = select(above, splat<U>(rounding.saturate ? 254 : 255), code);
      if (!rounding.saturate)
         code = select(below, splat<U>(255), code);
      return select(size > splat<U>(0x7f800000u), splat<U>(255), code);
   }
};

/// An integer of `Width` bits, in the lowest ones of a byte.
template <int Width, bool Signed>
struct IntegerFormat {
   using Bits = std::uint8_t;
   using Wide = std::int32_t;

   template <int N>
   SOFIE_INLINE static PackN<std::int32_t, N> widen(PackN<Code, N> raw)
   {
      if constexpr (Signed)
         return bits<PackN<std::int32_t, N>>(raw << (32 - Width)) >> (32 - Width);
      else
         return bits<PackN<std::int32_t, N>>(raw & ((1u << Width) - 1));
   }

   /// The lowest bits.
   template <int N>
   SOFIE_INLINE static PackN<Code, N> narrow(PackN<std::int32_t, N> x, CastRounding)
   {
      return bits<PackN<Code, N>>(x) & ((1u << Width) - 1);
   }
};

/// One number in a format.
template <class F>
struct Stored {
   using Format = F;
   typename F::Bits bits;

   Stored() = default;
   /// The nearest number, or the lowest bits of the integer part.
   explicit Stored(float x);
   explicit operator float() const;
};

using Float16 = Stored<FloatFormat<std::uint16_t, 5, 10, 15, SpecialCodes::ieee>>;
using BFloat16 = Stored<FloatFormat<std::uint16_t, 8, 7, 127, SpecialCodes::ieee>>;
using Float8E4M3Fn = Stored<FloatFormat<std::uint8_t, 4, 3, 7, SpecialCodes::one_nan>>;
using Float8E4M3Fnuz = Stored<FloatFormat<std::uint8_t, 4, 3, 8, SpecialCodes::sign_nan>>;
using Float8E5M2 = Stored<FloatFormat<std::uint8_t, 5, 2, 15, SpecialCodes::ieee>>;
using Float8E5M2Fnuz = Stored<FloatFormat<std::uint8_t, 5, 2, 16, SpecialCodes::sign_nan>>;
using Float8E8M0Fnu = Stored<PowerFormat>;
using Float6E2M3Fn = Stored<FloatFormat<std::uint8_t, 2, 3, 1, SpecialCodes::none>>;
using Float6E3M2Fn = Stored<FloatFormat<std::uint8_t, 3, 2, 3, SpecialCodes::none>>;
using Float4E2M1Fn = Stored<FloatFormat<std::uint8_t, 2, 1, 1, SpecialCodes::none>>;
using Int4 = Stored<IntegerFormat<4, true>>;
using UInt4 = Stored<IntegerFormat<4, false>>;
using Int2 = Stored<IntegerFormat<2, true>>;
using UInt2 = Stored<IntegerFormat<2, false>>;

/// A pack of them is a pack of their bits, as many as there are floats in a register.
template <class F, int N>
struct PackOf<Stored<F>, N> {
   using type = typename PackOf<typename F::Bits, N>::type;
};
template <class F>
inline constexpr int lanes<Stored<F>> = lanes<float>;

template <class T>
inline constexpr bool is_stored = false;
template <class F>
inline constexpr bool is_stored<Stored<F>> = true;

/// The type that elements of type `T` are computed in.
template <class T>
struct ComputedOf {
   using type = T;
};
template <class F>
struct ComputedOf<Stored<F>> {
   using type = typename F::Wide;
};
template <class T>
using Computed = typename ComputedOf<T>::type;

/// A pack of elements of type `T` as numbers that can be computed with; exact.
template <class T, class V>
SOFIE_INLINE PackN<Computed<T>, width<V>> widened(V v)
{
   if constexpr (is_stored<T>)
      return T::Format::template widen<width<V>>(convert<Code>(v));
   else
      return v;
}

/// Integers and doubles as floats: the nearest float, of the two that are next to it the one whose
/// last bit is set. To round that to fewer bits is to round the number itself.
template <class V>
SOFIE_INLINE PackN<float, width<V>> nearly(V v)
{
   using T = ElementOf<V>;
   constexpr int n = width<V>;
   if constexpr (std::is_same_v<T, float> || (std::is_integral_v<T> && sizeof(T) <= 2)) {
      return convert<float>(v);
   } else if constexpr (std::is_same_v<T, double>) {
      using I = PackN<std::int32_t, n>;
      const PackN<float, n> near = convert<float>(v);
      const V back = convert<double>(near);
      const V size = select(v < V{}, -v, v);
      // What is infinite as a float, is beyond all numbers of fewer bits.
      const auto differs = __builtin_convertvector((back != v) & (size < splat<V>(0x1p128)), I);
      const auto too_large = __builtin_convertvector(select(back < V{}, -back, back) > size, I);
      const I last = bits<I>(near);
      // One bit down where it is too large (the mask is -1), else one bit up.
      const I other = last + (too_large | 1);
      return bits<PackN<float, n>>(select(differs & ((last & 1) == 0), other, last));
   } else if constexpr (sizeof(T) == 8) {
      // 2^11 numbers become one: those that a double can tell apart.
      const V rest = v & static_cast<T>(0x7ff);
      const V odd = bits<V>((rest != V{}) & 0x800);
      const V rounded = (v & static_cast<T>(~T(0x7ff))) | odd;
      constexpr T limit = T(1) << 53;
      MaskOf<V> large = v > splat<V>(limit);
      if constexpr (std::is_signed_v<T>)
         large |= v < splat<V>(-limit);
      return nearly(convert<double>(select(large, rounded, v)));
   } else {
      return nearly(convert<double>(v));
   }
}

/// Numbers as elements of type `T`, in the form in which these are stored.
template <class T, class V>
SOFIE_INLINE PackN<T, width<V>> narrowed(V v, CastRounding rounding = {})
{
   if constexpr (!is_stored<T>)
      return convert<T>(v);
   else if constexpr (std::is_same_v<Computed<T>, float>)
      return convert<typename T::Format::Bits>(T::Format::template narrow<width<V>>(nearly(v), rounding));
   else
      return convert<typename T::Format::Bits>(
         T::Format::template narrow<width<V>>(convert<std::int32_t>(v), rounding));
}

template <class F>
Stored<F>::Stored(float x) : bits(narrowed<Stored>(PackN<float, 4>{x})[0])
{
}

template <class F>
Stored<F>::operator float() const
{
   return convert<float>(widened<Stored>(PackN<typename F::Bits, 4>{bits}))[0];
}

/// Conversion from and to elements of any type.
template <class From, class To>
struct Recast {
   bool saturate = true;
   int mode = 0;

   template <class V>
   SOFIE_INLINE PackN<To, width<V>> operator()(V x) const
   {
      return narrowed<To>(widened<From>(x), CastRounding{saturate, mode});
   }
};

} // namespace sofie

SOFIE_END

#endif
