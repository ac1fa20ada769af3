/// \file
/// Copies of rows of an image with their padding, in assembler.
#ifndef SOFIE_KERNELS_CONVOLUTION_PAD_ROWS_HXX
#define SOFIE_KERNELS_CONVOLUTION_PAD_ROWS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense/tile.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_AVX512_ASSEMBLER

/// For each channel and `taps` taps along a row, one row of the matrix each: zeros for `above` lines, `lines`
/// lines of the input, zeros for `below` lines. A line has `packs` packs with a mask each, of every second input
/// where the stride is 2. Distances are in bytes, in the matrix and in the input: from a tap to the next, from a
/// line to the next, from behind the last tap to the next channel's first. `left` is the assembler's own.
struct ConvFill {
   float *to;
   const float *from;
   const Size *masks;
   Size taps, above, lines, below, packs;
   Size to_tap, from_tap, to_line, from_line;
   Size channels, to_channel, from_channel, left;
};

// clang-format off
#define SOFIE_FILL_ZEROS(count)                                    \
   "mov %c[of_" #count "](%[of]), %[k]\n\t"                        \
   "imul %c[of_to_line](%[of]), %[k]\n\t"                          \
   "add %[to], %[k]\n\t"                                           \
   "mov %[to], %[at]\n\t"                                          \
   "jmp 3f\n"                                                      \
   "2:\n\t"                                                        \
   "vmovups %%zmm31, (%[at])\n\t"                                  \
   "add $64, %[at]\n"                                              \
   "3:\n\t"                                                        \
   "cmp %[k], %[at]\n\t"                                           \
   "jb 2b\n\t"                                                     \
   "mov %[k], %[to]\n\t"
#define SOFIE_FILL_PACK_1                                       \
   "kmovw (%[masks],%[at]), %%k1\n\t"                              \
   "vmovups (%[from],%[at],8), %%zmm0%{%%k1%}%{z%}\n\t"
#define SOFIE_FILL_PACK_2                                       \
   "kmovw (%[masks],%[at]), %%k1\n\t"                              \
   "kmovw 2(%[masks],%[at]), %%k2\n\t"                             \
   "lea (%[from],%[at],8), %[two]\n\t"                             \
   "vmovups (%[two],%[at],8), %%zmm0%{%%k1%}%{z%}\n\t"             \
   "vmovups 64(%[two],%[at],8), %%zmm1%{%%k2%}%{z%}\n\t"           \
   "vpermt2ps %%zmm1, %%zmm30, %%zmm0\n\t"
// Lines of one pack, with its masks in registers.
#define SOFIE_FILL_ONE_1 "vmovups (%[from]), %%zmm0%{%%k1%}%{z%}\n\t"
#define SOFIE_FILL_ONE_2                                        \
   "vmovups (%[from]), %%zmm0%{%%k1%}%{z%}\n\t"                   \
   "vmovups 64(%[from]), %%zmm1%{%%k2%}%{z%}\n\t"                 \
   "vpermt2ps %%zmm1, %%zmm30, %%zmm0\n\t"
#define SOFIE_FILL_ROWS(pack, one)                                                                                    \
   asm volatile(                                                                                                      \
      "vmovups (%[two]), %%zmm30\n\t"                                                                                 \
      "vpxord %%zmm31, %%zmm31, %%zmm31\n"                                                                            \
      "7:\n\t"                                                                                                        \
      "mov %c[of_taps](%[of]), %[k]\n\t"                                                                              \
      "mov %[k], %c[of_left](%[of])\n\t"                                                                              \
      "mov %c[of_masks](%[of]), %[masks]\n"                                                                           \
      "1:\n\t"                                                                                                        \
      "mov %c[of_to](%[of]), %[to]\n\t"                                                                               \
      "mov %c[of_from](%[of]), %[from]\n\t"                                                                           \
      SOFIE_FILL_ZEROS(above)                                                                                         \
      "mov %c[of_lines](%[of]), %[k]\n\t"                                                                             \
      "mov %c[of_packs](%[of]), %[end]\n\t"                                                                           \
      "shl $3, %[end]\n\t"                                                                                            \
      "cmp $8, %[end]\n\t"                                                                                            \
      "jne 6f\n\t"                                                                                                    \
      "test %[k], %[k]\n\t"                                                                                           \
      "jz 9f\n\t"                                                                                                     \
      "kmovw (%[masks]), %%k1\n\t"                                                                                    \
      "kmovw 2(%[masks]), %%k2\n\t"                                                                                   \
      "mov %c[of_to_line](%[of]), %[at]\n\t"                                                                          \
      "mov %c[of_from_line](%[of]), %[two]\n\t"                                                                       \
      ".p2align 5\n"                                                                                                  \
      "8:\n\t"                                                                                                        \
      one                                                                                                             \
      "vmovups %%zmm0, (%[to])\n\t"                                                                                   \
      "add %[at], %[to]\n\t"                                                                                          \
      "add %[two], %[from]\n\t"                                                                                       \
      "dec %[k]\n\t"                                                                                                  \
      "jnz 8b\n\t"                                                                                                    \
      "jmp 9f\n\t"                                                                                                    \
      ".p2align 5\n"                                                                                                  \
      "4:\n\t"                                                                                                        \
      "xor %k[at], %k[at]\n"                                                                                          \
      "5:\n\t"                                                                                                        \
      pack                                                                                                            \
      "vmovups %%zmm0, (%[to],%[at],8)\n\t"                                                                           \
      "add $8, %[at]\n\t"                                                                                             \
      "cmp %[end], %[at]\n\t"                                                                                         \
      "jb 5b\n\t"                                                                                                     \
      "add %c[of_to_line](%[of]), %[to]\n\t"                                                                          \
      "add %c[of_from_line](%[of]), %[from]\n"                                                                        \
      "6:\n\t"                                                                                                        \
      "dec %[k]\n\t"                                                                                                  \
      "jns 4b\n"                                                                                                      \
      "9:\n\t"                                                                                                        \
      SOFIE_FILL_ZEROS(below)                                                                                         \
      "add %[end], %[masks]\n\t"                                                                                      \
      "mov %c[of_to_tap](%[of]), %[k]\n\t"                                                                            \
      "add %[k], %c[of_to](%[of])\n\t"                                                                                \
      "mov %c[of_from_tap](%[of]), %[k]\n\t"                                                                          \
      "add %[k], %c[of_from](%[of])\n\t"                                                                              \
      "decq %c[of_left](%[of])\n\t"                                                                                   \
      "jnz 1b\n\t"                                                                                                    \
      "mov %c[of_to_channel](%[of]), %[k]\n\t"                                                                        \
      "add %[k], %c[of_to](%[of])\n\t"                                                                                \
      "mov %c[of_from_channel](%[of]), %[k]\n\t"                                                                      \
      "add %[k], %c[of_from](%[of])\n\t"                                                                              \
      "decq %c[of_channels](%[of])\n\t"                                                                               \
      "jnz 7b\n\t"                                                                                                    \
      : [to] "=&r"(to), [from] "=&r"(from), [masks] "=&r"(masks), [k] "=&r"(k), [at] "=&r"(at), [end] "=&r"(end),     \
        [two] "+&r"(two)                                                                                              \
      : [of] "r"(&fill),                                                                                              \
        SOFIE_MEMBERS(of, ConvFill, to, from, masks, taps, above, lines, below, packs, to_tap, from_tap, to_line, from_line, \
           channels, to_channel, from_channel, left)                                                                  \
      : "memory", "cc", "k1", "k2", "xmm0", "xmm1", "xmm30", "xmm31")
// clang-format on

template <int Stride>
SOFIE_KERNEL void conv_fill_rows(ConvFill fill)
{
   static const std::int32_t order[16] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
   const std::int32_t *two = order;
   float *to;
   const float *from;
   const Size *masks;
   Size k, at, end;
   if constexpr (Stride == 2)
      SOFIE_FILL_ROWS(SOFIE_FILL_PACK_2, SOFIE_FILL_ONE_2);
   else
      SOFIE_FILL_ROWS(SOFIE_FILL_PACK_1, SOFIE_FILL_ONE_1);
}

/// The numbers first, ..., last - 1 of 0, ..., 31 as bits.
SOFIE_INLINE Size conv_fill_bits(Size first, Size last)
{
   first = first < 0 ? 0 : first;
   last = last > 32 ? 32 : last;
   return first < last ? (Size{1} << last) - (Size{1} << first) : 0;
}

#endif

} // namespace sofie

SOFIE_END

#endif
