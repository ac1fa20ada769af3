/// \file
/// Elementary functions of packs of float or double.
///
/// The functions that activations need are computed on whole packs, without branches or tables, for
/// all numbers: infinities, NaN, denormals and the sign of zero included. What they promise is the
/// largest distance from the exact result in units of its last place (ULP), for float / for double,
/// with FMA or without.
///
/// The polynomials were fitted for this file, each to have the smallest largest error: Remez's
/// exchange in 50-digit arithmetic, then each coefficient rounded. Errors are from before that.
#ifndef SOFIE_MATH_HXX
#define SOFIE_MATH_HXX

#include "sofie/math/rounding.hxx"

SOFIE_BEGIN

namespace sofie {

/// The numbers that differ between float and double.
template <class T>
struct MathOf;

template <>
struct MathOf<float> {
   static constexpr int mantissa = mantissa_bits<float>, bias = 127;
   static constexpr float infinity = __builtin_inff(), nan = __builtin_nanf("");
   static constexpr float smallest = 0x1p-126f, sqrt_half = 0x1.6a09e6p-1f;

   // ln 2 in two parts; the first has 16 bits, so that its product with an exponent is exact.
   static constexpr float log2_e = 1.44269504f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;

   // From here on, in the element type: e^x is 0, is infinite; e^x - 1 is -1; tanh x is 1.
   static constexpr float exp_low = -104, exp_high = 89, expm1_low = -20, tanh_high = 10;

   // (e^r - 1 - r) / r^2, |r| <= 1.001 ln(2) / 2: degree 5, e^r - 1 within 2.4e-10 of itself.
   static constexpr float exp[] = {0.5f, 0.166666657f, 0.0416663587f, 0.00833338965f, 0.00139407197f, 0.00019845886f};
   // (2 atanh(s) / s - 2) / s^2 in s^2.
   // |s| <= 0.1717 (half an octave): degree 2, the logarithm within 8.1e-10 of itself.
   static constexpr float log[] = {0.666667759f, 0.399774969f, 0.298730731f};
   // |s| <= 1/3: degree 4, 1.1e-10.
   static constexpr float softplus[] = {0.666666746f, 0.39998877f, 0.286168844f, 0.214276582f, 0.243009329f};
};

template <>
struct MathOf<double> {
   static constexpr int mantissa = mantissa_bits<double>, bias = 1023;
   static constexpr double infinity = __builtin_inf(), nan = __builtin_nan("");
   static constexpr double smallest = 0x1p-1022, sqrt_half = 0x1.6a09e667f3bcdp-1;

   // As for float; the first part has 42 bits.
   static constexpr double log2_e = 1.4426950408889634, ln2_high = 0x1.62e42fefa38p-1, ln2_low = 0x1.ef35793c7673p-45;

   static constexpr double exp_low = -746, exp_high = 710, expm1_low = -40, tanh_high = 20;

   // Degree 10, 2.6e-19.
   static constexpr double exp[] = {0.5,
                                    0.16666666666666677,
                                    0.041666666666666505,
                                    0.008333333333321606,
                                    0.0013888888888962893,
                                    0.00019841269886208064,
                                    2.480158717185511e-05,
                                    2.7557244104088255e-06,
                                    2.755740293150887e-07,
                                    2.5109081431783478e-08,
                                    2.0875330973224845e-09};
   // Degree 6, 1.2e-18.
   static constexpr double log[] = {0.6666666666666735,  0.39999999999411096, 0.2857142874326225, 0.22222198476033872,
                                    0.18183569737075922, 0.15313903323078115, 0.14797506885199593};
   // Degree 10, 3.6e-20.
   static constexpr double softplus[] = {0.6666666666666667,  0.3999999999999398,  0.28571428572510005,
                                         0.22222222125472227, 0.18181823202853634, 0.1538445193378547,
                                         0.13336805795010703, 0.11715950883692029, 0.10972565664299107,
                                         0.06994250362940072, 0.16467630650144732};
};

/// The MathOf of a pack's elements.
template <class V>
using MathFor = MathOf<ElementOf<V>>;

/// `Coefficients[0] + x * Coefficients[1] + ...` by Horner's rule.
template <const auto &Coefficients, int First = 0, class V>
SOFIE_INLINE V polynomial(V x)
{
   constexpr ElementOf<V> here = Coefficients[First];
   if constexpr ((First + 1) * sizeof(here) == sizeof(Coefficients))
      return splat<V>(here);
   else
      return multiply_add(x, polynomial<Coefficients, First + 1>(x), splat<V>(here));
}

/// `x = n ln 2 + rest`, |rest| <= ln(2) / 2; the low bits of `power` are n + 2 bias.
template <class V>
struct Reduced {
   V rest;
   MaskOf<V> power;
};

/// With n for `near`, which may be a rounded x.
template <class V>
SOFIE_INLINE Reduced<V> reduce_by_ln2(V x, V near)
{
   using Of = MathFor<V>;
   // Numbers of this size are the integers, which their low bits count: the sum rounds x / ln 2.
   // Twice the bias makes `power` positive.
   constexpr auto shifter = static_cast<ElementOf<V>>((3ll << (Of::mantissa - 1)) + 2 * Of::bias);
   const V shifted = multiply_add(near, splat<V>(Of::log2_e), splat<V>(shifter));
   const V n = shifted - splat<V>(shifter);
   const V rest = multiply_add(n, splat<V>(-Of::ln2_high), x);
   return {multiply_add(n, splat<V>(-Of::ln2_low), rest), bits<MaskOf<V>>(shifted)};
}

template <class V>
SOFIE_INLINE Reduced<V> reduce_by_ln2(V x)
{
   return reduce_by_ln2(x, x);
}

/// 2^n where the low bits of `biased` are n + bias, for normal 2^n: exact.
template <class V>
SOFIE_INLINE V power_of_two(MaskOf<V> biased)
{
   return bits<V>(biased << MathFor<V>::mantissa);
}

/// `e^rest - 1` of a reduced number.
template <class V>
SOFIE_INLINE V expm1_of_rest(V rest)
{
   return multiply_add(rest * rest, polynomial<MathFor<V>::exp>(rest), rest);
}

/// `x 2^n` of a reduced number, in two steps, since 2^n itself can be out of range; only the second one rounds.
template <class V>
SOFIE_INLINE V times_power(V x, const Reduced<V> &reduced)
{
   const MaskOf<V> half = reduced.power >> 1;
   return x * power_of_two<V>(half) * power_of_two<V>(reduced.power - half);
}

/// `e^x` for x that are not above exp_high.
template <class V>
SOFIE_INLINE V exp_not_high(V x)
{
   // Where it is 0 another number is computed: arithmetic that ends in denormal numbers is slow.
   const MaskOf<V> low = x < splat<V>(MathFor<V>::exp_low);
   const Reduced<V> reduced = reduce_by_ln2(select(low, V{}, x));
   return select(low, V{}, times_power(expm1_of_rest(reduced.rest) + splat<V>(1), reduced));
}

/// `e^x`: 1 ULP / 1 ULP.
template <class V>
SOFIE_INLINE V exp(V x)
{
   return exp_not_high(at_most(x, MathFor<V>::exp_high));
}

/// `e^x - 1`: 1.5 ULP / 2 ULP.
template <class V>
SOFIE_INLINE V expm1(V x)
{
   using Of = MathFor<V>;
   const Reduced<V> reduced = reduce_by_ln2(at_least(at_most(x, Of::exp_high), Of::expm1_low));
   // (2^h (e^rest - 1) + 2^h - 2^(h-n)) 2^(n-h), since 2^n itself can be out of range.
   const MaskOf<V> half = reduced.power >> 1;
   const V first = power_of_two<V>(half);
   const V second = power_of_two<V>(reduced.power - half);
   const V inverse = power_of_two<V>(half - reduced.power + 2 * Of::bias);
   const V sum = multiply_add(first, expm1_of_rest(reduced.rest), first - inverse);
   return copysign(sum * second, x);
}

/// `tanh x = (e^2x - 1) / (e^2x - 1 + 2)`: 2.5 ULP / 2.7 ULP.
template <class V>
SOFIE_INLINE V tanh(V x)
{
   using Of = MathFor<V>;
   const V size = at_most(abs(x), Of::tanh_high);
   const Reduced<V> reduced = reduce_by_ln2(size + size);
   const V power = power_of_two<V>(reduced.power - Of::bias);
   const V difference = multiply_add(power, expm1_of_rest(reduced.rest), power - splat<V>(1));
   return copysign(difference / (difference + splat<V>(2)), x);
}

/// `a / (1 + e^-x)`, with one rounding less than the product with a sigmoid.
template <class V>
SOFIE_INLINE V times_sigmoid(V a, V x)
{
   // a e^x / (e^x + 1) for x < 0, which does not overflow.
   const V power = exp_not_high(-abs(x));
   return a * select<V>(x < V{}, power, splat<V>(1)) / (power + splat<V>(1));
}

/// `1 / (1 + e^-x)`: 2.5 ULP / 2.5 ULP.
template <class V>
SOFIE_INLINE V sigmoid(V x)
{
   return times_sigmoid(splat<V>(1), x);
}

/// `log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)`: 2.1 ULP / 2.2 ULP.
template <class V>
SOFIE_INLINE V softplus(V x)
{
   // log(1 + p) = 2 atanh(s), s = p / (p + 2); 2 s = p - s p
   const V power = exp_not_high(-abs(x));
   const V s = power / (power + splat<V>(2));
   const V square = s * s;
   const V excess = multiply_add(-square, polynomial<MathFor<V>::softplus>(square), power);
   return at_least(x, 0) + multiply_add(-s, excess, power);
}

/// `x = 2^n (1 + rest)`, sqrt(1/2) <= 1 + rest < sqrt(2).
template <class V>
struct Octave {
   V rest;
   MaskOf<V> n;
};

/// The octave of a normal x > 0.
template <class V>
SOFIE_INLINE Octave<V> octave(V x)
{
   using Of = MathFor<V>;
   constexpr auto fraction = static_cast<ElementOf<MaskOf<V>>>((1ll << Of::mantissa) - 1);
   const MaskOf<V> least = bits<MaskOf<V>>(splat<V>(Of::sqrt_half));
   const MaskOf<V> above = minus(bits<MaskOf<V>>(x), least);
   return {bits<V>((above & fraction) + least) - splat<V>(1), above >> Of::mantissa};
}

/// `log(2^n (1 + rest)) = n ln 2 + 2 atanh(rest / (rest + 2))`.
template <class V>
SOFIE_INLINE V log_of_octave(V rest, MaskOf<V> n)
{
   using Of = MathFor<V>;
   // An integer to floating point, for targets without such an instruction for 64 bits.
   const V shifter = splat<V>(static_cast<ElementOf<V>>(3ll << (Of::mantissa - 1)));
   const V octaves = bits<V>(n + bits<MaskOf<V>>(shifter)) - shifter;
   // 2 s = r - s r = r - (h - s h), with h = r^2 / 2: what is rounded before the end is small.
   const V s = rest / (rest + splat<V>(2));
   const V square = s * s;
   const V half = rest * rest * splat<V>(0.5f);
   const V more = multiply_add(square, polynomial<Of::log>(square), half);
   const V low = multiply_add(s, more, octaves * splat<V>(Of::ln2_low));
   return multiply_add(octaves, splat<V>(Of::ln2_high), rest - (half - low));
}

/// `result`, which is log x, where x is positive and finite; the limit or NaN elsewhere.
template <class V>
SOFIE_INLINE V log_limits(V result, V x)
{
   using Of = MathFor<V>;
   const V positive = select<V>(x < splat<V>(Of::infinity), result, x);
   return select<V>(x > V{}, positive, select<V>(x == V{}, splat<V>(-Of::infinity), splat<V>(Of::nan)));
}

/// `log x`: 1 ULP / 1 ULP.
template <class V>
SOFIE_INLINE V log(V x)
{
   using Of = MathFor<V>;
   constexpr auto shift = static_cast<ElementOf<V>>(1ll << Of::mantissa);
   const MaskOf<V> denormal = x < splat<V>(Of::smallest);
   const Octave<V> parts = octave(select<V>(denormal, x * splat<V>(shift), x));
   return log_limits(log_of_octave(parts.rest, parts.n - (denormal & Of::mantissa)), x);
}

/// `log(1 + x)`: 1.5 ULP / 1.5 ULP.
template <class V>
SOFIE_INLINE V log1p(V x)
{
   using Of = MathFor<V>;
   // What 1 + x loses by rounding, exactly.
   const V one = splat<V>(1);
   const V sum = x + one;
   const V kept = sum - one;
   const V lost = (one - (sum - kept)) + (x - kept);
   const Octave<V> parts = octave(sum);
   // Times 2^-n, or a normal number where `lost` is too small to matter.
   const MaskOf<V> scale = Of::bias - select<MaskOf<V>>(parts.n < Of::bias, parts.n, MaskOf<V>{} + (Of::bias - 1));
   const V rest = multiply_add(lost, power_of_two<V>(scale), parts.rest);
   return copysign(log_limits(log_of_octave(rest, parts.n), sum), x);
}

} // namespace sofie

SOFIE_END

#endif
