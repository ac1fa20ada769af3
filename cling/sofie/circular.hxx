/// \file
/// Sines, cosines and their inverses of packs of float, computed as double: so they are rounded almost always
/// correctly, and no digits are lost in front of that.
///
/// The polynomials were fitted as those in `math.hxx`, which includes this file.
#ifndef SOFIE_CIRCULAR_HXX
#define SOFIE_CIRCULAR_HXX

#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

struct Circular {
   // Half of pi in three parts, of which the first two have 33 bits: times a number below 2^20 they are exact.
   static constexpr double part[] = {0x1.921fb544p+0, 0x1.0b4611a6p-34, 0x1.3198a2e037073p-69};
   static constexpr double half_pi = 0x1.921fb54442d18p+0, inverse = 0x1.45f306dc9c883p-1;
   static constexpr double shifter = 0x1.8p52; // Numbers of this size are the integers: adding it rounds.
   static constexpr float far = 0x1p20f;

   // (sin(r) / r - 1) / r^2 in r^2, |r| <= pi / 4: within 1.8e-11 of itself.
   static constexpr double sin[] = {-0.16666666663854168, 0.008333331874273714, -0.000198400864995936,
                                    2.7249895230611676e-06};
   // (cos(r) - 1) / r^2 in r^2: 2.3e-13.
   static constexpr double cos[] = {-0.49999999999963873, 0.041666666637384386, -0.0013888885090262895,
                                    2.4799861846361453e-05, -2.7237108576245085e-07};
   // (atan(x) / x - 1) / x^2 in x^2, |x| <= 1: 5.4e-12.
   static constexpr double atan[] = {
      -0.3333333333230858,   0.1999999965269345,   -0.14285694570640292,  0.11110666303625419,   -0.09085624177887072,
      0.07654295472644398,   -0.06487062356606563, 0.052943908816199266,  -0.038767022568525905, 0.02324837369843582,
      -0.010257166271499646, 0.002875485609943425, -0.0003778858076662609};
};

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
/// atan x, as exact as floats need it.
struct ShortAtan {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      const W size = abs(x), one = splat<W>(1);
      const MaskOf<W> above = size > one;
      const W small = select<W>(above, one / size, size), square = small * small;
      const W angle = multiply_add(small * square, polynomial<Circular::atan>(square), small);
      return copysign(select<W>(above, splat<W>(Circular::half_pi) - angle, angle), x);
   }
};
/// asin x = atan(x / sqrt(1 - x^2)).
struct ShortAsin {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      const W one = splat<W>(1);
      return ShortAtan::of(x / sqrt((one - x) * (one + x)));
   }
};
struct ShortAcos {
   template <class W>
   SOFIE_INLINE static W of(W x)
   {
      return splat<W>(Circular::half_pi) - ShortAsin::of(x);
   }
};

/// F of floats, of each half as doubles: all of them would be wider than a register, which g++ does not pass silently.
template <class F, class V>
SOFIE_INLINE V by_halves(V x)
{
   if constexpr (width<V> == 1) {
      return convert<float>(F::of(convert<double>(x)));
   } else {
      PackN<float, width<V> / 2> halves[2];
      __builtin_memcpy(halves, &x, sizeof(x));
      halves[0] = convert<float>(F::of(convert<double>(halves[0])));
      halves[1] = convert<float>(F::of(convert<double>(halves[1])));
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

/// atan x: 1 ULP for float.
template <class V>
SOFIE_INLINE V atan(V x)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>)
      return by_halves<ShortAtan>(x);
   else
      return each(x, Each_atan{});
}

/// asin x: 1 ULP for float.
template <class V>
SOFIE_INLINE V asin(V x)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>)
      return by_halves<ShortAsin>(x);
   else
      return each(x, Each_asin{});
}

/// acos x: 1 ULP for float.
template <class V>
SOFIE_INLINE V acos(V x)
{
   if constexpr (std::is_same_v<ElementOf<V>, float>)
      return by_halves<ShortAcos>(x);
   else
      return each(x, Each_acos{});
}

} // namespace sofie

SOFIE_END

#endif
