/// \file
/// Rows of convolutions whose places have sixteen numbers, a whole register: those of some groups in turn.
///
/// Sixteen features lie in the lanes: f of group g in lane f * together + g. Inputs lie likewise, so the same channel
/// of all groups is one broadcast, and a row of outputs is a sum of neighbours times weights, wherever strides and
/// dilations put them.
#ifndef SOFIE_KERNELS_CONVOLUTION_GROUPED_ROWS_HXX
#define SOFIE_KERNELS_CONVOLUTION_GROUPED_ROWS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/convolution.hxx"
#include "sofie/kernels/convolution/channel_lanes.hxx"

#ifdef SOFIE_TRANSPOSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// Rows of outputs, in blocks. Distances are in bytes.
struct GroupedRows {
   const float *x, *w, *bias;
   float *y;
   // Where each group of taps reads, and where its weights are: three, two, or one, that read neighbouring outputs'
   // inputs, so that an input is loaded once for all of them.
   const std::int32_t *taps;
   Size threes, twos, ones, apart; // How many there are, and how far apart their weights are.
   Size rows, blocks, x_row, y_row, x_block;
   Size to_twos, to_ones; // How much of the list is left out before these.
   float floor;
};

/// How many of each there are for each row of the kernel.
struct GroupedTaps {
   Size threes, twos, ones;
};

// clang-format off
// Blocks have 8 columns or 14: of the outputs behind the eighth the assembler leaves out what does not exist.
#define SOFIE_GROUPED_IF(text) ".if %c[columns] > 8\n\t" text ".endif\n\t"
#define SOFIE_GROUPED_EACH(each)                                                                                  \
   each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7)                                                \
   SOFIE_GROUPED_IF(each(8) each(9) each(10) each(11) each(12) each(13))
#define SOFIE_GROUPED_START(a) "vmovaps %%zmm29, %%zmm" #a "\n\t"
#define SOFIE_GROUPED_RESULT(a) \
   "vmaxps %%zmm" #a ", %%zmm30, %%zmm" #a "\n\tvmovups %%zmm" #a ", 64*" #a "(%[to])\n\t"
// An input, and the outputs for which the first, the second, and the third weight are.
#define SOFIE_GROUPED_X(load, t, x) load " 64*%c[stride]*" #t "(%[from]), %%zmm" #x "\n\t"
#define SOFIE_GROUPED_W(x, w, a) "vfmadd231ps %%zmm" #x ", %%zmm" #w ", %%zmm" #a "\n\t"
#define SOFIE_GROUPED_A(load, t, x, a) SOFIE_GROUPED_X(load, t, x) SOFIE_GROUPED_W(x, 16, a)
#define SOFIE_GROUPED_B(load, t, x, b) SOFIE_GROUPED_X(load, t, x) SOFIE_GROUPED_W(x, 17, b)
#define SOFIE_GROUPED_C(load, t, x, c) SOFIE_GROUPED_X(load, t, x) SOFIE_GROUPED_W(x, 18, c)
#define SOFIE_GROUPED_AB(load, t, x, a, b) SOFIE_GROUPED_A(load, t, x, a) SOFIE_GROUPED_W(x, 17, b)
#define SOFIE_GROUPED_BC(load, t, x, b, c) SOFIE_GROUPED_B(load, t, x, b) SOFIE_GROUPED_W(x, 18, c)
#define SOFIE_GROUPED_ABC(load, t, x, a, b, c) SOFIE_GROUPED_AB(load, t, x, a, b) SOFIE_GROUPED_W(x, 18, c)
// One weight alone: its inputs are operands where they fill registers, or are one number.
#define SOFIE_GROUPED_WHOLE(a) "vfmadd231ps 64*%c[stride]*" #a "(%[from]), %%zmm16, %%zmm" #a "\n\t"
#define SOFIE_GROUPED_NUMBER(a) "vfmadd231ps 64*%c[stride]*" #a "(%[from])%{1to16%}, %%zmm16, %%zmm" #a "\n\t"
#define SOFIE_GROUPED_PART(load, t, x) SOFIE_GROUPED_A(load, t, x, t)
#define SOFIE_GROUPED_PARTS(load)                                                                                  \
   SOFIE_GROUPED_PART(load, 0, 20) SOFIE_GROUPED_PART(load, 1, 21) SOFIE_GROUPED_PART(load, 2, 22)                 \
   SOFIE_GROUPED_PART(load, 3, 23) SOFIE_GROUPED_PART(load, 4, 20) SOFIE_GROUPED_PART(load, 5, 21)                 \
   SOFIE_GROUPED_PART(load, 6, 22) SOFIE_GROUPED_PART(load, 7, 23)                                                 \
   SOFIE_GROUPED_IF(                                                                                               \
      SOFIE_GROUPED_PART(load, 8, 20) SOFIE_GROUPED_PART(load, 9, 21) SOFIE_GROUPED_PART(load, 10, 22)             \
      SOFIE_GROUPED_PART(load, 11, 23) SOFIE_GROUPED_PART(load, 12, 20) SOFIE_GROUPED_PART(load, 13, 21))
#define SOFIE_GROUPED_TWO(load)                                                                                    \
   SOFIE_GROUPED_A(load, 0, 20, 0)                                                                                 \
   SOFIE_GROUPED_AB(load, 1, 21, 1, 0) SOFIE_GROUPED_AB(load, 2, 22, 2, 1) SOFIE_GROUPED_AB(load, 3, 23, 3, 2)     \
   SOFIE_GROUPED_AB(load, 4, 20, 4, 3) SOFIE_GROUPED_AB(load, 5, 21, 5, 4) SOFIE_GROUPED_AB(load, 6, 22, 6, 5)     \
   SOFIE_GROUPED_AB(load, 7, 23, 7, 6) SOFIE_GROUPED_B(load, 8, 20, 7)                                             \
   SOFIE_GROUPED_IF(                                                                                               \
      SOFIE_GROUPED_W(20, 16, 8) SOFIE_GROUPED_AB(load, 9, 21, 9, 8) SOFIE_GROUPED_AB(load, 10, 22, 10, 9)         \
      SOFIE_GROUPED_AB(load, 11, 23, 11, 10) SOFIE_GROUPED_AB(load, 12, 20, 12, 11)                                \
      SOFIE_GROUPED_AB(load, 13, 21, 13, 12) SOFIE_GROUPED_B(load, 14, 22, 13))
#define SOFIE_GROUPED_THREE(load)                                                                                  \
   SOFIE_GROUPED_A(load, 0, 20, 0) SOFIE_GROUPED_AB(load, 1, 21, 1, 0)                                             \
   SOFIE_GROUPED_ABC(load, 2, 22, 2, 1, 0) SOFIE_GROUPED_ABC(load, 3, 23, 3, 2, 1)                                 \
   SOFIE_GROUPED_ABC(load, 4, 20, 4, 3, 2) SOFIE_GROUPED_ABC(load, 5, 21, 5, 4, 3)                                 \
   SOFIE_GROUPED_ABC(load, 6, 22, 6, 5, 4) SOFIE_GROUPED_ABC(load, 7, 23, 7, 6, 5)                                 \
   SOFIE_GROUPED_BC(load, 8, 20, 7, 6) SOFIE_GROUPED_C(load, 9, 21, 7)                                             \
   SOFIE_GROUPED_IF(                                                                                               \
      SOFIE_GROUPED_W(20, 16, 8) SOFIE_GROUPED_W(21, 16, 9) SOFIE_GROUPED_W(21, 17, 8)                             \
      SOFIE_GROUPED_ABC(load, 10, 22, 10, 9, 8) SOFIE_GROUPED_ABC(load, 11, 23, 11, 10, 9)                         \
      SOFIE_GROUPED_ABC(load, 12, 20, 12, 11, 10) SOFIE_GROUPED_ABC(load, 13, 21, 13, 12, 11)                      \
      SOFIE_GROUPED_BC(load, 14, 22, 13, 12) SOFIE_GROUPED_C(load, 15, 23, 13))
#define SOFIE_GROUPED_GROUPS(count, first, next, weights, products)       \
   "mov %c[of_" #count "](%[of]), %[k]\n\t"                               \
   "test %[k], %[k]\n\t"                                                  \
   "jle " next "f\n"                                                      \
   first ":\n\t"                                                          \
   "movslq (%[at]), %[from]\n\t"                                          \
   "movslq 4(%[at]), %[w]\n\t"                                            \
   "add %[x], %[from]\n\t"                                                \
   "add %c[of_w](%[of]), %[w]\n\t"                                        \
   "add $8, %[at]\n\t"                                                    \
   "vmovups (%[w]), %%zmm16\n\t"                                          \
   weights products                                                       \
   "dec %[k]\n\t"                                                         \
   "jnz " first "b\n"                                                     \
   next ":\n\t"
#define SOFIE_GROUPED_ROWS(load, one_tap)                                                                             \
   asm volatile(                                                                                                      \
      "mov %c[of_bias](%[of]), %[at]\n\t"                                                                             \
      "vmovups (%[at]), %%zmm29\n\t"                                                                                  \
      "vbroadcastss %c[of_floor](%[of]), %%zmm30\n\t"                                                                 \
      "mov %c[of_apart](%[of]), %[apart]\n"                                                                           \
      "1:\n\t"                                                                                                        \
      "mov %c[of_x](%[of]), %[x]\n\t"                                                                                 \
      "mov %c[of_y](%[of]), %[to]\n\t"                                                                                \
      "mov %c[of_blocks](%[of]), %[block]\n"                                                                          \
      "2:\n\t"                                                                                                        \
      SOFIE_GROUPED_EACH(SOFIE_GROUPED_START)                                                                         \
      "mov %c[of_taps](%[of]), %[at]\n\t"                                                                             \
      SOFIE_GROUPED_GROUPS(threes, "3", "4",                                                                          \
         "vmovups (%[w],%[apart]), %%zmm17\n\tvmovups (%[w],%[apart],2), %%zmm18\n\t", SOFIE_GROUPED_THREE(load))     \
      "add %c[of_to_twos](%[of]), %[at]\n\t"                                                                          \
      SOFIE_GROUPED_GROUPS(twos, "5", "6", "vmovups (%[w],%[apart]), %%zmm17\n\t", SOFIE_GROUPED_TWO(load))           \
      "add %c[of_to_ones](%[of]), %[at]\n\t"                                                                          \
      SOFIE_GROUPED_GROUPS(ones, "7", "8", "", one_tap)                                                               \
      SOFIE_GROUPED_EACH(SOFIE_GROUPED_RESULT)                                                                        \
      "add $64*%c[columns], %[to]\n\t"                                                                                \
      "add %c[of_x_block](%[of]), %[x]\n\t"                                                                           \
      "dec %[block]\n\t"                                                                                              \
      "jnz 2b\n\t"                                                                                                    \
      "mov %c[of_x_row](%[of]), %[at]\n\t"                                                                            \
      "add %[at], %c[of_x](%[of])\n\t"                                                                                \
      "mov %c[of_y_row](%[of]), %[at]\n\t"                                                                            \
      "add %[at], %c[of_y](%[of])\n\t"                                                                                \
      "decq %c[of_rows](%[of])\n\t"                                                                                   \
      "jnz 1b\n\t"                                                                                                    \
      : [x] "=&r"(x), [w] "=&r"(w), [to] "=&r"(to), [from] "=&r"(from), [at] "=&r"(at), [k] "=&r"(k),                 \
        [block] "=&r"(block), [apart] "=&r"(apart)                                                                    \
      : [of] "r"(&of),                                                                                                \
        SOFIE_MEMBERS(of, GroupedRows, x, w, bias, y, taps, threes, twos, ones, apart, rows, blocks, x_row, y_row, x_block, \
           to_twos, to_ones, floor),                                                                                  \
        [stride] "i"(Stride), [columns] "i"(Columns)                                                                  \
      : "memory", "cc", SOFIE_ALL_PACKS)
// clang-format on

/// y = max(bias + the sum of weights times inputs, floor) for `Columns` columns at a time, perhaps more than a row has.
/// An input is `Together` numbers in turn, one for each group.
template <int Columns, int Stride, int Together>
SOFIE_KERNEL void grouped_rows(GroupedRows &of)
{
   const float *x, *w, *from;
   const std::int32_t *at;
   float *to;
   Size k, block, apart;
   if constexpr (Together == 16)
      SOFIE_GROUPED_ROWS("vmovups", SOFIE_GROUPED_EACH(SOFIE_GROUPED_WHOLE));
   else if constexpr (Together == 8)
      SOFIE_GROUPED_ROWS("vbroadcastf64x4", SOFIE_GROUPED_PARTS("vbroadcastf64x4"));
   else if constexpr (Together == 4)
      SOFIE_GROUPED_ROWS("vbroadcastf32x4", SOFIE_GROUPED_PARTS("vbroadcastf32x4"));
   else if constexpr (Together == 2)
      SOFIE_GROUPED_ROWS("vbroadcastsd", SOFIE_GROUPED_PARTS("vbroadcastsd"));
   else
      SOFIE_GROUPED_ROWS("vbroadcastss", SOFIE_GROUPED_EACH(SOFIE_GROUPED_NUMBER));
}

/// The list of taps: three together first, then two and one, each for one row of the kernel after the other. A channel
/// of each group is `together` numbers of a place, and images of sixteen numbers are `image` bytes apart.
SOFIE_KERNEL inline GroupedTaps grouped_taps(GroupedRows &of, std::int32_t *taps, const ConvShape &s, Size together,
                                             Size image)
{
   constexpr Size place = 64, bytes = Size{sizeof(float)};
   const Size each = 16 / together;
   const Size pitch = lanes_pitch(s.out[2], s.strides[2], s.kernel[2], s.dilations[2], s.pads[2], s.in[2]);
   // So many taps further on is what the next output reads at this one; no such tap is a distance beyond all.
   const Size apart = s.strides[2] % s.dilations[2] == 0 ? s.strides[2] / s.dilations[2] : s.kernel[2];
   of.taps = taps;
   of.apart = apart * place;
   Size counts[4] = {};
   for (Size tied = 3; tied > 0; --tied)
      for (Size h = 0; h < s.kernel[1]; ++h)
         for (Size c = 0; c < s.group_channels(); ++c)
            for (Size w = 0; w < s.kernel[2]; ++w) {
               // The place of a tap among those that are a multiple of that distance apart, and how many follow it.
               const Size before = w / apart, behind = (s.kernel[2] - 1 - w) / apart + 1;
               if (before % 3 != 0 || (behind < 3 ? behind : 3) != tied)
                  continue;
               *taps++ = static_cast<std::int32_t>((h * s.dilations[1] * pitch + w * s.dilations[2]) * place +
                                                   c / each * image + c % each * together * bytes);
               *taps++ = static_cast<std::int32_t>((c * s.taps() + h * s.kernel[2] + w) * place);
               ++counts[tied];
            }
   return {counts[3] / s.kernel[1], counts[2] / s.kernel[1], counts[1] / s.kernel[1]};
}

/// The same for rows `first`, ..., `end - 1` of the kernel alone.
SOFIE_INLINE void grouped_some_taps(GroupedRows &of, const std::int32_t *taps, const GroupedTaps &each, Size kernel,
                                    Size first, Size end)
{
   constexpr Size entry = 2 * Size{sizeof(std::int32_t)};
   const Size behind = kernel - end;
   of.taps = taps + 2 * first * each.threes;
   of.threes = (end - first) * each.threes;
   of.twos = (end - first) * each.twos;
   of.ones = (end - first) * each.ones;
   of.to_twos = (behind * each.threes + first * each.twos) * entry;
   of.to_ones = (behind * each.twos + first * each.ones) * entry;
}

} // namespace sofie

SOFIE_END

#endif

#endif
