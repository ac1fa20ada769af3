/// \file
/// Numbers of 16 bits: devices move them, and compute in float.
#ifndef SOFIE_DEVICE_HALF_HXX
#define SOFIE_DEVICE_HALF_HXX

#include <cstring>

#include "sofie/device/base.hxx"

namespace sofie {
namespace device {

template <class To, class From>
SOFIE_DEVICE To bits_as(From from)
{
   static_assert(sizeof(To) == sizeof(From), "the same bits");
   To to;
   std::memcpy(&to, &from, sizeof to);
   return to;
}

/// A sign, an exponent of so many bits, and a fraction of the rest.
template <int Fraction>
struct Half {
   static constexpr int shift = 23 - Fraction, bias = Fraction == 7 ? 127 : 15;
   static constexpr std::uint32_t ones = 0x7fff, sign = 0x8000, infinity = ones >> Fraction << Fraction;
   /// What the exponent of a float is larger by.
   static constexpr std::uint32_t offset = static_cast<std::uint32_t>(127 - bias) << 23;

   std::uint16_t bits;

   Half() = default;
   /// The nearest number, from the middle the even one.
   SOFIE_DEVICE explicit Half(float x)
   {
      const auto all = bits_as<std::uint32_t>(x);
      const std::uint32_t size = all & 0x7fffffff;
      std::uint32_t code = (size + (1u << (shift - 1)) - 1 + (size >> shift & 1) - offset) >> shift;
      if constexpr (bias != 127)
         if (size < static_cast<std::uint32_t>(128 - bias) << 23) {
            // The lowest bit of this number is the least Half: a sum is rounded to its multiples.
            constexpr float grid = 0.5f;
            code = bits_as<std::uint32_t>(bits_as<float>(size) + grid) - bits_as<std::uint32_t>(grid);
         }
      code = size > 0x7f800000 ? ones : code > infinity ? infinity : code;
      bits = static_cast<std::uint16_t>(code | (all >> 16 & sign));
   }
   SOFIE_DEVICE explicit operator float() const
   {
      const std::uint32_t code = bits & ones;
      std::uint32_t found = (code << shift) + offset;
      if (code >= infinity)
         found = code << shift | 0x7f800000;
      else if (bias != 127 && code < 1u << Fraction)
         found = bits_as<std::uint32_t>(static_cast<float>(code) * 5.9604644775390625e-8f); // 2^-24
      return bits_as<float>(found | (bits & sign) << 16);
   }
};

using Float16 = Half<10>;
using BFloat16 = Half<7>;

template <class T>
inline constexpr bool is_half = false;
template <int Fraction>
inline constexpr bool is_half<Half<Fraction>> = true;

/// The float on the side of 0, or on the other one, whose last bit is 1 where x is between two: it is rounded once
/// more.
SOFIE_DEVICE float to_odd(double x)
{
   const float near = static_cast<float>(x);
   auto bits = bits_as<std::uint32_t>(near);
   const double back = static_cast<double>(near);
   if (back == x || x != x)
      return near;
   if ((back > x) == (x > 0))
      --bits;
   return bits_as<float>(bits | 1);
}

} // namespace device
} // namespace sofie

#endif
