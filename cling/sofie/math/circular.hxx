/// \file
/// Sines, cosines and tangents of packs of float, computed as double: so they are rounded almost always correctly, and
/// no digits are lost in front of that. Their inverses of packs of float, which lose none there.
///
/// The polynomials were fitted as those in `math.hxx`.
#ifndef SOFIE_MATH_CIRCULAR_HXX
#define SOFIE_MATH_CIRCULAR_HXX

#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

struct Circular {
   // Half of pi in three parts, of which the first two have 33 bits: times a number below 2^20 they are exact.
   static constexpr double part[] = {0x1.921fb544p+0, 0x1.0b4611a6p-34, 0x1.3198a2e037073p-69};
   static constexpr double inverse = 0x1.45f306dc9c883p-1;
   static constexpr double shifter = 0x1.8p52; // Numbers of this size are the integers: adding it rounds.
   static constexpr float far = 0x1p20f;

   // (sin(r) / r - 1) / r^2 in r^2, |r| <= pi / 4: within 1.8e-11 of itself.
   static constexpr double sin[] = {-0.16666666663854168, 0.008333331874273714, -0.000198400864995936,
                                    2.7249895230611676e-06};
   // (cos(r) - 1) / r^2 in r^2: 2.3e-13.
   static constexpr double cos[] = {-0.49999999999963873, 0.041666666637384386, -0.0013888885090262895,
                                    2.4799861846361453e-05, -2.7237108576245085e-07};

   // Half of pi in two floats.
   static constexpr float half_pi_high = 0x1.921fb6p+0f, half_pi_low = -0x1.777a5cp-25f;
   // (asin(x) / x - 1) / x^2 in x^2, |x| <= 1 / 2: degree 4, within 5e-9 of itself.
   static constexpr float asin[] = {1.6666754e-01f, 7.495233e-02f, 4.5478344e-02f, 2.4140995e-02f, 4.2230524e-02f};
   // (atan(x) / x - 1) / x^2 in x^2, |x| <= 1: degree 8, 2.3e-9.
   static constexpr float atan[] = {-3.3333302e-01f, 1.9998638e-01f,  -1.4265245e-01f, 1.0957573e-01f, -8.4194444e-02f,
                                    5.8234237e-02f,  -3.1455338e-02f, 1.1064227e-02f,  -1.8271618e-03f};
};

// They are too rare in networks for code of its own for double: there it is one element after the other, as
// accurate as the C library. Of float it is here and in `math/powers.hxx`.

#define SOFIE_EACH(name)                                                        \
   struct Each_##name {                                                         \
      SOFIE_INLINE float operator()(float x) { return __builtin_##name##f(x); } \
      SOFIE_INLINE double operator()(double x) { return __builtin_##name(x); }  \
   };

SOFIE_EACH(sin)
SOFIE_EACH(cos)
SOFIE_EACH(tan)
SOFIE_EACH(asin)
SOFIE_EACH(acos)
SOFIE_EACH(atan)
SOFIE_EACH(sinh)
SOFIE_EACH(cosh)
SOFIE_EACH(asinh)
SOFIE_EACH(acosh)
SOFIE_EACH(atanh)

#undef SOFIE_EACH

/// Whether any lane of a mask is true.
template <class V>
SOFIE_INLINE bool any_lane(MaskOf<V> mask)
{
   ElementOf<MaskOf<V>> found = 0;
   for (int i = 0; i < width<V>; ++i)
      found |= mask[i];
   return found != 0;
}

/// Sine and cosine of what is left of a number beside quarters of a turn, and their number in the low bits.
template <class W>
struct Quarters {
   W sine, cosine;
   MaskOf<W> number;

   SOFIE_INLINE void reduce(W x)
   {
      const W shifted = multiply_add(x, splat<W>(Circular::inverse), splat<W>(Circular::shifter));
      const W n = shifted - splat<W>(Circular::shifter);
      W rest = multiply_add(n, splat<W>(-Circular::part[0]), x);
      rest = multiply_add(n, splat<W>(-Circular::part[1]), rest);
      rest = multiply_add(n, splat<W>(-Circular::part[2]), rest);
      const W square = rest * rest;
      sine = multiply_add(rest * square, polynomial<Circular::sin>(square), rest);
      cosine = multiply_add(square, polynomial<Circular::cos>(square), splat<W>(1));
      number = bits<MaskOf<W>>(shifted);
   }
   /// The sine of so many quarters more.
   SOFIE_INLINE W turned(int more) const
   {
      const MaskOf<W> all = number + more;
      return bits<W>(bits<MaskOf<W>>(select<W>((all & 1) == 1, cosine, sine)) ^ ((all & 2) << 62));
   }
   SOFIE_INLINE W tangent() const
   {
      const MaskOf<W> odd = (number & 1) == 1;
      return select<W>(odd, -cosine, sine) / select<W>(odd, sine, cosine);
   }
};

// What is computed of doubles.
struct ShortSine {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      Quarters<W> quarters;
      quarters.reduce(x);
      return quarters.turned(0);
   }
};
struct ShortCosine {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      Quarters<W> quarters;
      quarters.reduce(x);
      return quarters.turned(1);
   }
};
struct ShortTangent {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      Quarters<W> quarters;
      quarters.reduce(x);
      return quarters.tangent();
   }
};
/// The first or the second half of a pack.
template <class V>
SOFIE_INLINE PackN<ElementOf<V>, width<V> / 2> half_of(const V &x, int which)
{
   PackN<ElementOf<V>, width<V> / 2> halves[2];
   __builtin_memcpy(halves, &x, sizeof(x));
   return halves[which];
}

/// F of floats, of each half as doubles: all of them would be wider than a register, which g++ does not pass silently.
template <class F, class V, class... More>
SOFIE_INLINE V by_halves(V x, More... more)
{
   if constexpr (width<V> == 1) {
      return convert<float>(F::of(convert<double>(x), convert<double>(more)...));
   } else {
      const PackN<float, width<V> / 2> halves[] = {
         convert<float>(F::of(convert<double>(half_of(x, 0)), convert<double>(half_of(more, 0))...)),
         convert<float>(F::of(convert<double>(half_of(x, 1)), convert<double>(half_of(more, 1))...))};
      __builtin_memcpy(&x, halves, sizeof(x));
      return x;
   }
}

/// `exact` where x is far away, which is rare, else `near`; zeros keep their sign.
template <class F, class V>
SOFIE_KERNEL void circular_far(V &near, V x)
{
   near = select<V>(abs(x) > splat<V>(Circular::far), each(x, F{}), near);
}

/// sin x: 1 ULP for float.
template <class V>
SOFIE_INLINE V sin(V x)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>) {
      V y = by_halves<ShortSine>(x);
      if (any_lane<V>(abs(x) > splat<V>(Circular::far)))
         circular_far<Each_sin>(y, x);
      return select<V>(x == V{}, x, y);
   } else {
      return each(x, Each_sin{});
   }
}

/// cos x: 1 ULP for float.
template <class V>
SOFIE_INLINE V cos(V x)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>) {
      V y = by_halves<ShortCosine>(x);
      if (any_lane<V>(abs(x) > splat<V>(Circular::far)))
         circular_far<Each_cos>(y, x);
      return y;
   } else {
      return each(x, Each_cos{});
   }
}

/// tan x: 1 ULP for float.
template <class V>
SOFIE_INLINE V tan(V x)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>) {
      V y = by_halves<ShortTangent>(x);
      if (any_lane<V>(abs(x) > splat<V>(Circular::far)))
         circular_far<Each_tan>(y, x);
      return select<V>(x == V{}, x, y);
   } else {
      return each(x, Each_tan{});
   }
}

/// atan x, for |x| > 1 as pi / 2 - atan(1 / x): 2 ULP for float.
template <class V>
SOFIE_INLINE V atan(V x)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>) {
      const V size = abs(x), one = splat<V>(1);
      const MaskOf<V> above = size > one;
      const V small = select<V>(above, one / size, size), square = small * small;
      const V angle = multiply_add(small * square, polynomial<Circular::atan>(square), small);
      const V beyond = (splat<V>(Circular::half_pi_high) - angle) + splat<V>(Circular::half_pi_low);
      return copysign(select<V>(above, beyond, angle), x);
   } else {
      return each(x, Each_atan{});
   }
}

/// asin |x| where |x| <= 1 / 2, else asin sqrt((1 - |x|) / 2), which is half of acos |x|.
template <class V>
struct ArcSine {
   MaskOf<V> large;
   V root, more; // Their sum is the angle.

   SOFIE_INLINE explicit ArcSine(V x)
   {
      const V size = abs(x), half = splat<V>(0.5f);
      large = size > half;
      const V square = select<V>(large, (splat<V>(1) - size) * half, size * size);
      root = select<V>(large, sqrt(square), size);
      more = root * square * polynomial<Circular::asin>(square);
   }
};

/// asin x: 1.5 ULP for float.
template <class V>
SOFIE_INLINE V asin(V x)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>) {
      const ArcSine<V> of(x);
      const V high = splat<V>(Circular::half_pi_high), root = of.root + of.root;
      const V first = high - root, lost = (high - first) - root;
      const V beyond = first - ((of.more + of.more - splat<V>(Circular::half_pi_low)) - lost);
      return copysign(select<V>(of.large, beyond, of.root + of.more), x);
   } else {
      return each(x, Each_asin{});
   }
}

/// acos x: 1.5 ULP for float.
template <class V>
SOFIE_INLINE V acos(V x)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>) {
      const ArcSine<V> of(x);
      const V angle = of.root + of.more, twice = angle + angle;
      // pi / 2 - asin x, or pi - 2 angle.
      const V high = splat<V>(Circular::half_pi_high), low = splat<V>(Circular::half_pi_low);
      const V less = select<V>(of.large, twice, copysign(angle, x));
      const V whole = select<V>(of.large, high + high, high), rest = select<V>(of.large, low + low, low);
      return select<V>(of.large & (x > V{}), twice, (whole - less) + rest);
   } else {
      return each(x, Each_acos{});
   }
}

} // namespace sofie

SOFIE_END

#endif
