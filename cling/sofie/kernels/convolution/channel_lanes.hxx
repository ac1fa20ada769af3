/// \file
/// Images of sixteen channels as one image of which each place has sixteen numbers, a whole register.
#ifndef SOFIE_KERNELS_CONVOLUTION_CHANNEL_LANES_HXX
#define SOFIE_KERNELS_CONVOLUTION_CHANNEL_LANES_HXX

#include "sofie/kernels/transpose/blocks.hxx"

#ifdef SOFIE_TRANSPOSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

// clang-format off
// Four numbers of each of four rows, four rows apart; pairs of numbers, and pairs of pairs, then change places.
#define SOFIE_PLACES_QUARTERS(a, p0, p1, p2, p3)                                                                  \
   "vmovups " p0 ", %%xmm" #a "\n\t"                                                                               \
   "vinsertf32x4 $1, " p1 ", %%zmm" #a ", %%zmm" #a "\n\t"                                                         \
   "vinsertf32x4 $2, " p2 ", %%zmm" #a ", %%zmm" #a "\n\t"                                                         \
   "vinsertf32x4 $3, " p3 ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_PLACES_PIECE(a, j)                                                                                  \
   SOFIE_PLACES_QUARTERS(a, "16*" #j "(%[from],%[off])", "16*" #j "(%[from],%[off1])",                            \
                          "16*" #j "(%[from],%[off2])", "16*" #j "(%[from],%[off3])")
#define SOFIE_PLACES_ROWS_OF(r, a, b, c, d)                                                                       \
   "mov 8*" #r "(%[at]), %[off]\n\tmov 8*" #r "+32(%[at]), %[off1]\n\t"                                            \
   "mov 8*" #r "+64(%[at]), %[off2]\n\tmov 8*" #r "+96(%[at]), %[off3]\n\t"                                        \
   SOFIE_PLACES_PIECE(a, 0) SOFIE_PLACES_PIECE(b, 1) SOFIE_PLACES_PIECE(c, 2) SOFIE_PLACES_PIECE(d, 3)
#define SOFIE_PLACES_PLACES_OF(a, r, j)                                                                           \
   SOFIE_PLACES_QUARTERS(a, "64*" #r "+16*" #j "(%[from])", "64*" #r "+16*" #j "+256(%[from])",                   \
                          "64*" #r "+16*" #j "+512(%[from])", "64*" #r "+16*" #j "+768(%[from])")
#define SOFIE_PLACES_LANES_OF(j, a, b, c, d)                                                                      \
   SOFIE_PLACES_PLACES_OF(a, 0, j) SOFIE_PLACES_PLACES_OF(b, 1, j) SOFIE_PLACES_PLACES_OF(c, 2, j)              \
   SOFIE_PLACES_PLACES_OF(d, 3, j)
#define SOFIE_PLACES_TRANSPOSE                                                                                    \
   SOFIE_TRANSPOSE_FOUR(0, 1, 2, 3, 16, 17, 18, 19) SOFIE_TRANSPOSE_FOUR(4, 5, 6, 7, 20, 21, 22, 23)               \
   SOFIE_TRANSPOSE_FOUR(8, 9, 10, 11, 24, 25, 26, 27) SOFIE_TRANSPOSE_FOUR(12, 13, 14, 15, 28, 29, 30, 31)
#define SOFIE_PLACES_READ(a) "mov 8*" #a "(%[at]), %[off]\n\tvmovups (%[from],%[off]), %%zmm" #a "%{%%k1%}%{z%}\n\t"
#define SOFIE_PLACES_PLACE(a) "vmovups %%zmm" #a ", 64*" #a "(%[to])\n\t"
#define SOFIE_PLACES_WRITE(a) "mov 8*" #a "(%[at]), %[off]\n\tvmovups %%zmm" #a ", (%[to],%[off])%{%%k1%}\n\t"
// clang-format on

/// to[i][lane] = from[i] of the row that is at[lane] bytes further on. What is behind the last i, up to a multiple of
/// 16, becomes 0.
SOFIE_KERNEL inline void rows_to_places(float *to, const float *from, const Size *at, Size count)
{
   const Size mask = (Size{1} << count % 16) - 1;
   Size packs = count / 16, off, off1, off2, off3;
   // clang-format off
   asm volatile(
      "test %[packs], %[packs]\n\t"
      "jle 2f\n"
      "1:\n\t"
      SOFIE_PLACES_ROWS_OF(0, 0, 4, 8, 12) SOFIE_PLACES_ROWS_OF(1, 1, 5, 9, 13)
      SOFIE_PLACES_ROWS_OF(2, 2, 6, 10, 14) SOFIE_PLACES_ROWS_OF(3, 3, 7, 11, 15)
      SOFIE_PLACES_TRANSPOSE SOFIE_TRANSPOSE_EACH(SOFIE_PLACES_PLACE)
      "add $64, %[from]\n\t"
      "add $1024, %[to]\n\t"
      "dec %[packs]\n\t"
      "jnz 1b\n"
      "2:\n\t"
      "test %[mask], %[mask]\n\t"
      "jz 3f\n\t"
      "kmovw %k[mask], %%k1\n\t"
      SOFIE_TRANSPOSE_EACH(SOFIE_PLACES_READ) SOFIE_PLACES_TRANSPOSE
      SOFIE_TRANSPOSE_COLUMN(0, 4, 8, 12, 16, 20, 24, 28) SOFIE_TRANSPOSE_COLUMN(1, 5, 9, 13, 17, 21, 25, 29)
      SOFIE_TRANSPOSE_COLUMN(2, 6, 10, 14, 18, 22, 26, 30) SOFIE_TRANSPOSE_COLUMN(3, 7, 11, 15, 19, 23, 27, 31)
      SOFIE_TRANSPOSE_EACH(SOFIE_PLACES_PLACE)
      "3:\n\t"
      : [to] "+&r"(to), [from] "+&r"(from), [packs] "+&r"(packs), [off] "=&r"(off), [off1] "=&r"(off1),
        [off2] "=&r"(off2), [off3] "=&r"(off3)
      : [at] "r"(at), [mask] "r"(mask)
      : "memory", "cc", "k1", SOFIE_ALL_PACKS);
   // clang-format on
}

/// The other way round. Of lanes that are of one row the last counts; places up to a multiple of 16 are read.
SOFIE_KERNEL inline void places_to_rows(float *to, const float *from, const Size *at, Size count)
{
   const Size mask = (Size{1} << count % 16) - 1;
   Size off;
   // clang-format off
   asm volatile(
      "kxnorw %%k1, %%k1, %%k1\n"
      "1:\n\t"
      "cmp $16, %[count]\n\t"
      "jge 2f\n\t"
      "kmovw %k[mask], %%k1\n"
      "2:\n\t"
      SOFIE_PLACES_LANES_OF(0, 0, 1, 2, 3) SOFIE_PLACES_LANES_OF(1, 4, 5, 6, 7)
      SOFIE_PLACES_LANES_OF(2, 8, 9, 10, 11) SOFIE_PLACES_LANES_OF(3, 12, 13, 14, 15)
      SOFIE_PLACES_TRANSPOSE SOFIE_TRANSPOSE_EACH(SOFIE_PLACES_WRITE)
      "add $1024, %[from]\n\t"
      "add $64, %[to]\n\t"
      "sub $16, %[count]\n\t"
      "jg 1b\n\t"
      : [to] "+&r"(to), [from] "+&r"(from), [count] "+&r"(count), [off] "=&r"(off)
      : [at] "r"(at), [mask] "r"(mask)
      : "memory", "cc", "k1", SOFIE_ALL_PACKS);
   // clang-format on
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

/// Up to so long rows are turned together, and then moved apart.
inline constexpr Size lanes_short = 8;

/// Rows `row`, ..., `end - 1` of an image with their padding, of sixteen channels that are at x + at[lane] bytes; what
/// does not exist is `none`. Short rows are turned in memory of their own, which may be that behind `to` of the result.
SOFIE_KERNEL inline void fill_lanes(float *to, float *turned, const float *x, const Size *at, const LanesImage &s,
                                    Size row, Size end, float none)
{
   const Size right = s.pitch - s.left - s.columns, whole = (s.columns + 15) / 16 * 16;
   const Size first = row < 0 ? 0 : row, last = end < s.rows ? end : s.rows;
   if (s.columns <= lanes_short && last > first)
      rows_to_places(turned, x + first * s.columns, at, (last - first) * s.columns);
   for (; row < end; ++row, to += s.pitch * 16) {
      const bool exists = row >= 0 && row < s.rows;
      if (!exists || s.columns <= lanes_short) {
         fill_line_of_lanes(to, turned, exists ? s.left : s.pitch, exists ? s.columns : 0, exists ? right : 0, none);
         turned += exists ? s.columns * 16 : 0;
         continue;
      }
      if (s.left > 0)
         fill_line_of_lanes(to, to, s.left, 0, 0, none);
      // Whole packs go on in the next row, where there is one.
      rows_to_places(to + s.left * 16, x + row * s.columns, at,
                     (s.rows - row) * s.columns >= whole ? whole : s.columns);
      if (right > 0)
         fill_line_of_lanes(to + (s.left + s.columns) * 16, to, right, 0, 0, none);
   }
}

} // namespace sofie

SOFIE_END

#endif

#endif
