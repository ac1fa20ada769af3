/// \file
/// Powers, remainders, and hyperbolic functions and their inverses, of packs of float: computed as double, so that they
/// are rounded almost always correctly, and no digits are lost in front of that.
///
/// The polynomials were fitted as those in `math.hxx`.
#ifndef SOFIE_MATH_POWERS_HXX
#define SOFIE_MATH_POWERS_HXX

#include "sofie/math/circular.hxx"

SOFIE_BEGIN

namespace sofie {

struct Powers {
   static constexpr double infinity = MathOf<double>::infinity, nan = MathOf<double>::nan;
   static constexpr double ln2 = 0x1.62e42fefa39efp-1;
   // Numbers of this size are the integers: adding it rounds, and the low bits are those of an exponent.
   static constexpr double shifter = 0x1.8p52 + 1023;
   static constexpr double high = 200; // 2^x is infinite for floats.
   static constexpr double sinh_high = 100;
   static constexpr double small = 0x1p-12; // Up to here two terms are enough for a logarithm of 1 + x.
   static constexpr double quotient = 0x1p29;

   // log2((1 + s) / (1 - s)) / s in s^2, |s| <= 0.1717 (half an octave): degree 4, within 4.2e-12 of itself.
   static constexpr double log2[] = {2.885390081790141, 0.961796673266402, 0.5770836003331397, 0.41167174510623084,
                                     0.3407489992480211};
   // 2^f, |f| <= 1/2: degree 6, 1.9e-9.
   static constexpr double exp2[] = {1.00000000055488,      0.6931472057692352,  0.240226468873929,
                                     0.055503287083992055,  0.00961848911099672, 0.0013399958739034096,
                                     0.00015345822969686944};
   // (sinh(r) / r - 1) / r^2 in r^2, |r| <= 1.001 ln(2) / 2: 5.3e-12.
   static constexpr double sinh[] = {0.16666666755024537, 0.008333288794751611, 0.00019905075453714136};
   // (cosh(r) - 1) / r^2 in r^2: 4.8e-11.
   static constexpr double cosh[] = {0.5000000079564385, 0.041666265634392775, 0.0013946333501189078};
};

// What is computed of doubles.

/// log2 x of a positive x, normal and finite.
template <class W>
SOFIE_INLINE W short_log2(W x)
{
   const Octave<W> parts = octave(x);
   const W shifter = splat<W>(0x1.8p52);
   const W octaves = bits<W>(parts.n + bits<MaskOf<W>>(shifter)) - shifter;
   const W s = parts.rest / (parts.rest + splat<W>(2));
   return multiply_add(s, polynomial<Powers::log2>(s * s), octaves);
}

/// 2^x, infinite or 0 as a float at the latest from `high` on.
template <class W>
SOFIE_INLINE W short_exp2(W x)
{
   const W limited = at_least(at_most(x, Powers::high), -Powers::high);
   const W shifted = limited + splat<W>(Powers::shifter);
   const W rest = limited - (shifted - splat<W>(Powers::shifter));
   return polynomial<Powers::exp2>(rest) * power_of_two<W>(bits<MaskOf<W>>(shifted));
}

/// x^y of an x that is not negative. 1^y and x^0 are 1, whatever the other number is.
struct ShortPower {
   template <class W>
   SOFIE_INLINE static W of(W x, W y)
   {
      const W infinity = splat<W>(Powers::infinity);
      const W finite = select<W>(x < infinity, short_log2(x), x);
      const W product = y * select<W>(x == W{}, -infinity, finite);
      return short_exp2(select<W>((y == W{}) | (x == splat<W>(1)), W{}, product));
   }
};

/// The rest of |x| / |y|; NaN where the quotient is too large for that, or none.
struct ShortRemainder {
   template <class W>
   SOFIE_INLINE static W of(W x, W y)
   {
      const W a = abs(x), b = abs(y), quotient = a / b, whole = splat<W>(0x1p52);
      // Of floats it is that of the exact quotient: below an integer that is at least by 2^-24.
      const W rounded = (quotient + whole) - whole;
      const W times = rounded - select<W>(rounded > quotient, splat<W>(1), W{});
      const W rest = select<W>(times == W{}, a, multiply_add(-times, b, a));
      return select<W>(quotient < splat<W>(Powers::quotient), rest, splat<W>(Powers::nan));
   }
};

/// e^x = 2^n e^r and e^-x: half of their sum and of their difference.
template <class W>
struct ShortHyperbolic {
   W even, odd, sum, difference; // cosh r and sinh r; 2^(n - 1) and 2^(-n - 1).

   SOFIE_INLINE explicit ShortHyperbolic(W x)
   {
      const W size = at_most(abs(x), Powers::sinh_high);
      const W shifter = splat<W>(Powers::shifter - 1);
      const W shifted = multiply_add(size, splat<W>(MathOf<double>::log2_e), shifter);
      const W rest = multiply_add(shifted - shifter, splat<W>(-Powers::ln2), size), square = rest * rest;
      even = multiply_add(square, polynomial<Powers::cosh>(square), splat<W>(1));
      odd = multiply_add(rest * square, polynomial<Powers::sinh>(square), rest);
      const MaskOf<W> power = bits<MaskOf<W>>(shifted);
      const W up = power_of_two<W>(power), down = power_of_two<W>(2044 - power);
      sum = up + down;
      difference = up - down;
   }
};
struct ShortSinh {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      const ShortHyperbolic<W> parts(x);
      return copysign(multiply_add(parts.sum, parts.odd, parts.difference * parts.even), x);
   }
};
struct ShortCosh {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      const ShortHyperbolic<W> parts(x);
      return multiply_add(parts.sum, parts.even, parts.difference * parts.odd);
   }
};

/// sign(x) log(|x| + sqrt(x^2 + 1))
struct ShortAsinh {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      const W size = abs(x), square = size * size, one = splat<W>(1);
      const W large = short_log2(size + sqrt(square + one)) * splat<W>(Powers::ln2);
      const W small = size - size * square * splat<W>(1.0 / 6);
      const W finite = select<W>(size < splat<W>(Powers::small), small, large);
      return copysign(select<W>(size < splat<W>(Powers::infinity), finite, size), x);
   }
};
/// log(x + sqrt(x^2 - 1))
struct ShortAcosh {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      const W one = splat<W>(1);
      const W y = short_log2(x + sqrt((x - one) * (x + one))) * splat<W>(Powers::ln2);
      const W limit = select<W>(x < one, splat<W>(Powers::nan), x);
      return select<W>((x < splat<W>(Powers::infinity)) & (x >= one), y, limit);
   }
};
/// sign(x) log((1 + |x|) / (1 - |x|)) / 2
struct ShortAtanh {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      const W size = abs(x), one = splat<W>(1);
      const W large = short_log2((one + size) / (one - size)) * splat<W>(Powers::ln2 / 2);
      const W small = size + size * size * size * splat<W>(1.0 / 3);
      const W inside = select<W>(size < splat<W>(Powers::small), small, large);
      const W limit = select<W>(size == one, splat<W>(Powers::infinity), splat<W>(Powers::nan));
      return copysign(select<W>(size < one, inside, limit), x);
   }
};

// clang-format off
/// sinh x, cosh x, asinh x, acosh x and atanh x: 1 ULP for float.
#define SOFIE_BY_HALVES(name, Name)                       \
   template <class V>                                     \
   SOFIE_INLINE V name(V x)                               \
   {                                                      \
      if constexpr (std::is_same_v<ElementOf<V>, float>)  \
         return by_halves<Short##Name>(x);                \
      else                                                \
         return each(x, Each_##name{});                   \
   }
SOFIE_BY_HALVES(sinh, Sinh)
SOFIE_BY_HALVES(cosh, Cosh)
SOFIE_BY_HALVES(asinh, Asinh)
SOFIE_BY_HALVES(acosh, Acosh)
SOFIE_BY_HALVES(atanh, Atanh)
#undef SOFIE_BY_HALVES
// clang-format on

/// x^y: 1 ULP for float.
template <class V>
SOFIE_INLINE V pow(V x, V y)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>) {
      const V power = by_halves<ShortPower>(abs(x), y), half = y * splat<V>(0.5f);
      const MaskOf<V> whole = round_even(y) == y, odd = whole & (round_even(half) != half);
      const MaskOf<V> sign = bits<MaskOf<V>>(x) & bits<MaskOf<V>>(splat<V>(-0.0f)) & odd;
      const MaskOf<V> none = (x < V{}) & (x > splat<V>(-MathOf<float>::infinity)) & ~whole;
      return select<V>(none, splat<V>(MathOf<float>::nan), bits<V>(bits<MaskOf<V>>(power) ^ sign));
   } else {
      for (int i = 0; i < width<V>; ++i)
         x[i] = __builtin_pow(x[i], y[i]);
      return x;
   }
}

/// Where `rest` is NaN, by the C library.
SOFIE_KERNEL inline void exact_remainders(float *rest, const float *x, const float *y, int count)
{
   for (int i = 0; i < count; ++i)
      if (rest[i] != rest[i])
         rest[i] = __builtin_fmodf(x[i], y[i]);
}

/// What is left of x when it is divided by y, with the sign of x: exact.
template <class V>
SOFIE_INLINE V fmod(V x, V y)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>) {
      V rest = by_halves<ShortRemainder>(x, y);
      if (any_lane<V>(rest != rest)) {
         constexpr int n = width<V>;
         float of_x[std::size_t{n}], of_y[std::size_t{n}], rests[std::size_t{n}];
         store(of_x, x);
         store(of_y, y);
         store(rests, rest);
         exact_remainders(rests, of_x, of_y, n);
         rest = load<n>(rests);
      }
      return copysign(rest, x);
   } else {
      for (int i = 0; i < width<V>; ++i)
         x[i] = __builtin_fmod(x[i], y[i]);
      return x;
   }
}

} // namespace sofie

SOFIE_END

#endif
