/// \file
/// Copies of rows of an image with their padding, in assembler.
#ifndef SOFIE_KERNELS_CONVOLUTION_PAD_ROWS_HXX
#define SOFIE_KERNELS_CONVOLUTION_PAD_ROWS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense/tile.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER

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
// What differs between the instruction sets: a mask of AVX2 is a register that has the bits of its lanes; at the table
// are the places of every second number, or the bit of each lane. A mask of 8 bytes is for a pack.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_FILL_SCALE "8"
#define SOFIE_FILL_TABLE "vmovups (%[two]), %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31\n"
#define SOFIE_FILL_ZERO "%%zmm31"
#define SOFIE_FILL_MASK(place) "kmovw " place ", %%k1\n\t"
#define SOFIE_FILL_MASKS(place) SOFIE_FILL_MASK(place) "kmovw 2" place ", %%k2\n\t"
#define SOFIE_FILL_READ(number, place) \
   "vmovups " place ", %%zmm" #number "%{%%k" SOFIE_FILL_MASK_OF_##number "%}%{z%}\n\t"
#define SOFIE_FILL_MASK_OF_0 "1"
#define SOFIE_FILL_MASK_OF_1 "2"
#define SOFIE_FILL_SECONDS "vpermt2ps %%zmm1, %%zmm30, %%zmm0\n\t"
#define SOFIE_FILL_REGISTERS "k1", "k2", "xmm0", "xmm1", "xmm30", "xmm31"
#else
#define SOFIE_FILL_SCALE "4"
#define SOFIE_FILL_TABLE "vmovups (%[two]), %%ymm4\n\tvpslld $8, %%ymm4, %%ymm5\n\tvpxor %%xmm6, %%xmm6, %%xmm6\n"
#define SOFIE_FILL_ZERO "%%ymm6"
#define SOFIE_FILL_MASK(place)                                  \
   "vpbroadcastd " place ", %%ymm2\n\t"                         \
   "vpand %%ymm5, %%ymm2, %%ymm3\n\t"                           \
   "vpand %%ymm4, %%ymm2, %%ymm2\n\t"                           \
   "vpcmpeqd %%ymm4, %%ymm2, %%ymm2\n\t"
#define SOFIE_FILL_MASKS(place) SOFIE_FILL_MASK(place) "vpcmpeqd %%ymm5, %%ymm3, %%ymm3\n\t"
#define SOFIE_FILL_READ(number, place) \
   "vmaskmovps " place ", %%ymm" SOFIE_FILL_MASK_OF_##number ", %%ymm" #number "\n\t"
#define SOFIE_FILL_MASK_OF_0 "2"
#define SOFIE_FILL_MASK_OF_1 "3"
#define SOFIE_FILL_SECONDS "vshufps $0x88, %%ymm1, %%ymm0, %%ymm0\n\tvpermpd $0xd8, %%ymm0, %%ymm0\n\t"
#define SOFIE_FILL_REGISTERS SOFIE_ALL_YMM
#endif

#define SOFIE_FILL_ZEROS(count)                                    \
   "mov %c[of_" #count "](%[of]), %[k]\n\t"                        \
   "imul %c[of_to_line](%[of]), %[k]\n\t"                          \
   "add %[to], %[k]\n\t"                                           \
   "mov %[to], %[at]\n\t"                                          \
   "jmp 3f\n"                                                      \
   "2:\n\t"                                                        \
   "vmovups " SOFIE_FILL_ZERO ", (%[at])\n\t"                      \
   "add $" SOFIE_PACK_BYTES ", %[at]\n"                            \
   "3:\n\t"                                                        \
   "cmp %[k], %[at]\n\t"                                           \
   "jb 2b\n\t"                                                     \
   "mov %[k], %[to]\n\t"
#define SOFIE_FILL_PACK_1                                          \
   SOFIE_FILL_MASK("(%[masks],%[at])")                             \
   SOFIE_FILL_READ(0, "(%[from],%[at]," SOFIE_FILL_SCALE ")")
#define SOFIE_FILL_PACK_2                                          \
   SOFIE_FILL_MASKS("(%[masks],%[at])")                            \
   "lea (%[from],%[at]," SOFIE_FILL_SCALE "), %[two]\n\t"          \
   SOFIE_FILL_READ(0, "(%[two],%[at]," SOFIE_FILL_SCALE ")")       \
   SOFIE_FILL_READ(1, SOFIE_PACK_BYTES "(%[two],%[at]," SOFIE_FILL_SCALE ")") \
   SOFIE_FILL_SECONDS
// Lines of one pack, with its masks in registers.
#define SOFIE_FILL_ONE_1 SOFIE_FILL_READ(0, "(%[from])")
#define SOFIE_FILL_ONE_2                                           \
   SOFIE_FILL_READ(0, "(%[from])")                                 \
   SOFIE_FILL_READ(1, SOFIE_PACK_BYTES "(%[from])")                \
   SOFIE_FILL_SECONDS
#define SOFIE_FILL_STORE(place) "vmovups " SOFIE_PACK(0) ", " place "\n\t"
#define SOFIE_FILL_ROWS(pack, one)                                                                                    \
   asm volatile(                                                                                                      \
      SOFIE_FILL_TABLE                                                                                                \
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
      SOFIE_FILL_MASKS("(%[masks])")                                                                                  \
      "mov %c[of_to_line](%[of]), %[at]\n\t"                                                                          \
      "mov %c[of_from_line](%[of]), %[two]\n\t"                                                                       \
      ".p2align 5\n"                                                                                                  \
      "8:\n\t"                                                                                                        \
      one                                                                                                             \
      SOFIE_FILL_STORE("(%[to])")                                                                                     \
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
      SOFIE_FILL_STORE("(%[to],%[at]," SOFIE_FILL_SCALE ")")                                                          \
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
      : "memory", "cc", SOFIE_FILL_REGISTERS)
// clang-format on

template <int Stride>
SOFIE_KERNEL void conv_fill_rows(ConvFill fill)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   static const std::int32_t table[] = {0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30};
#else
   static const std::int32_t table[] = {1, 2, 4, 8, 16, 32, 64, 128};
#endif
   const std::int32_t *two = table;
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
