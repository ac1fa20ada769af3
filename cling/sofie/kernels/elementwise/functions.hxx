/// \file
/// The function objects of operators that are rare in networks: of angles, hyperbolic ones, powers and remainders.
#ifndef SOFIE_KERNELS_ELEMENTWISE_FUNCTIONS_HXX
#define SOFIE_KERNELS_ELEMENTWISE_FUNCTIONS_HXX

#include "sofie/math/powers.hxx"
#include "sofie/kernels/elementwise.hxx"

SOFIE_BEGIN

namespace sofie {

// clang-format off
SOFIE_MATH_FUNCTOR(Sin, sin)
SOFIE_MATH_FUNCTOR(Cos, cos)
SOFIE_MATH_FUNCTOR(Tan, tan)
SOFIE_MATH_FUNCTOR(Asin, asin)
SOFIE_MATH_FUNCTOR(Acos, acos)
SOFIE_MATH_FUNCTOR(Atan, atan)
SOFIE_MATH_FUNCTOR(Sinh, sinh)
SOFIE_MATH_FUNCTOR(Cosh, cosh)
SOFIE_MATH_FUNCTOR(Asinh, asinh)
SOFIE_MATH_FUNCTOR(Acosh, acosh)
SOFIE_MATH_FUNCTOR(Atanh, atanh)
// clang-format on

/// Remainder with the sign of the divisor (as in Python), or of the dividend (as in C).
struct Mod {
   bool fmod = false;
   template <class V>
   SOFIE_INLINE V operator()(V a, V b) const
   {
      if constexpr (is_floating<V>) {
         const V rest = sofie::fmod(a, b);
         if (fmod)
            return rest;
         return select(rest == V{}, copysign(V{}, b), select((rest < V{}) != (b < V{}), rest + b, rest));
      } else {
         const V rest = select(b == V{}, V{}, minus(a, times(divide_integers(a, b), b)));
         if (fmod)
            return rest;
         return select((rest != V{}) & ((rest < V{}) != (b < V{})), plus(rest, b), rest);
      }
   }
};

/// a to the power b, in the type of a.
struct Pow {
   template <class T, class E>
   static T power(T base, E exponent)
   {
      if constexpr (std::is_signed_v<E>) {
         if (exponent < 0)
            return base == T(1) ? T(1) : std::is_signed_v<T> && base == T(-1) ? (exponent % 2 ? base : T(1)) : T(0);
      }
      // In 64 bits, so that nothing overflows that is signed: the bits kept are those of the result.
      std::uint64_t result = 1, factor = static_cast<std::uint64_t>(base);
      for (; exponent; exponent = static_cast<E>(exponent / 2)) {
         if (exponent % 2)
            result *= factor;
         factor *= factor;
      }
      return static_cast<T>(result);
   }
   template <class V, class W>
   SOFIE_INLINE V operator()(V a, W b) const
   {
      using T = ElementOf<V>;
      using E = ElementOf<W>;
      if constexpr (std::is_same_v<T, E> && is_floating<V>) {
         return pow(a, b);
      } else {
         for (int i = 0; i < width<V>; ++i) {
            if constexpr (std::is_integral_v<T> && std::is_integral_v<E>)
               a[i] = power(static_cast<T>(a[i]), b[i]);
            else
               a[i] =
                  convert<T>(PackN<double, 1>{__builtin_pow(static_cast<double>(a[i]), static_cast<double>(b[i]))})[0];
         }
         return a;
      }
   }
};

} // namespace sofie

SOFIE_END

#endif
