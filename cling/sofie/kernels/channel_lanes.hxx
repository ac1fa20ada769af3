/// \file
/// Images of sixteen channels as one image of which each place has sixteen numbers, a whole register.
#ifndef SOFIE_KERNELS_CHANNEL_LANES_HXX
#define SOFIE_KERNELS_CHANNEL_LANES_HXX

#include "sofie/kernels/turn.hxx"

#ifdef SOFIE_TURN_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// to[i][lane] = from[lane][i] for up to 16 rows that are `apart`, the last of which stands for those behind it. What
/// is behind the last i, up to a multiple of 16, is written, too.
SOFIE_KERNEL inline void channels_to_lanes(float *to, const float *from, Size apart, Size rows, Size count)
{
   constexpr Size n = 16, bytes = Size{sizeof(float)};
   for (Size i = 0; i < count; i += n) {
      const Size some = count - i < n ? count - i : n;
      turn_block({to + i * n, n * bytes, n, 0xffff}, {from + i, apart * bytes, rows, (Size{1} << some) - 1});
   }
}

/// The other way round; the lanes behind the last row hold the same as that.
SOFIE_KERNEL inline void lanes_to_channels(float *to, const float *from, Size apart, Size rows, Size count)
{
   constexpr Size n = 16, bytes = Size{sizeof(float)};
   for (Size i = 0; i < count; i += n) {
      const Size some = count - i < n ? count - i : n;
      turn_block({to + i, apart * bytes, rows, (Size{1} << some) - 1}, {from + i * n, n * bytes, some, 0xffff});
   }
}

// clang-format off
#define SOFIE_LANES_FILL(count, next, fill)                            \
   "mov %[" #count "], %[k]\n\t"                                           \
   "test %[k], %[k]\n\t"                                                  \
   "jle " next "f\n"                                                       \
   "1:\n\t"                                                               \
   fill                                                                    \
   "vmovups %%zmm1, (%[to])\n\t"                                          \
   "add $64, %[to]\n\t"                                                   \
   "dec %[k]\n\t"                                                         \
   "jnz 1b\n"                                                              \
   next ":\n\t"
// clang-format on

/// to = `left` places of `none`, `count` places of `from`, and `right` places of `none`.
SOFIE_KERNEL inline void fill_line_of_lanes(float *to, const float *from, Size left, Size count, Size right, float none)
{
   Size k;
   asm volatile(
      "vbroadcastss (%[none]), %%zmm0\n\t"
      "vmovaps %%zmm0, %%zmm1\n\t" SOFIE_LANES_FILL(left, "2", "") SOFIE_LANES_FILL(
         count, "3",
         "vmovups (%[from]), %%zmm1\n\tadd $64, %[from]\n\t") "vmovaps %%zmm0, %%zmm1\n\t" SOFIE_LANES_FILL(right, "4",
                                                                                                            "")
      : [to] "+&r"(to), [from] "+&r"(from), [k] "=&r"(k)
      : [left] "r"(left), [count] "r"(count), [right] "r"(right), [none] "r"(&none)
      : "memory", "cc", "xmm0", "xmm1");
}

/// The places of a row with its padding: all of the image behind `begin`, and what `count` windows that are `stride`
/// apart reach.
SOFIE_INLINE Size lanes_pitch(Size count, Size stride, Size kernel, Size dilation, Size begin, Size size)
{
   const Size reach = (count - 1) * stride + (kernel - 1) * dilation + 1;
   return reach > begin + size ? reach : begin + size;
}

/// An image of which a place has sixteen numbers: its rows and columns, and where they are among their padding.
struct LanesImage {
   Size rows, columns, left, pitch;
};

/// Rows `first`, `first + 1`, ... of an image with their padding; what does not exist is `none`. The turned rows begin
/// with row `begin`.
SOFIE_KERNEL inline void pad_lanes(float *to, const float *turned, const LanesImage &s, Size first, Size rows,
                                   Size begin, float none)
{
   for (Size r = first; r < first + rows; ++r, to += s.pitch * 16) {
      if (r >= 0 && r < s.rows)
         fill_line_of_lanes(to, turned + (r - begin) * s.columns * 16, s.left, s.columns, s.pitch - s.left - s.columns,
                            none);
      else
         fill_line_of_lanes(to, turned, s.pitch, 0, 0, none);
   }
}

} // namespace sofie

SOFIE_END

#endif

#endif
