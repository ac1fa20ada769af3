/// \file
/// Rows of a transposed convolution's outputs: sums of rows of its products, for four features at a time.
///
/// A row of outputs that are a stride apart is a sum of rows of products; lanes for which there is no input are masked.
#ifndef SOFIE_KERNELS_CONVOLUTION_TRANSPOSED_ROWS_HXX
#define SOFIE_KERNELS_CONVOLUTION_TRANSPOSED_ROWS_HXX

#include "sofie/kernels/convolution.hxx"

SOFIE_BEGIN

namespace sofie {

/// How many ints come before those about each group of outputs in `conv_spread_groups`, and for a tap.
inline constexpr Size conv_spread_pair = 2;

/// The lanes from `begin` to `end` as bits.
SOFIE_INLINE std::int32_t conv_spread_bits(Size begin, Size end)
{
   return static_cast<std::int32_t>((Size{1} << end) - (Size{1} << begin));
}

/// Which products belong to the outputs q + stride * j of a row, a pack of j each: for each such
/// group the bytes of what follows, and for each tap where its first product is and which lanes it
/// has. Rows of products are `step` apart. The result is how many groups there are. Behind the bytes
/// are the lanes of outputs that exist in the pack of the row that has this number, for strides of 1
/// and 2, with which rows are written at once.
template <class T>
SOFIE_KERNEL Size conv_spread_groups(const ConvShape &s, Size step, std::int32_t *to)
{
   constexpr Size n = lanes<T>, bytes = static_cast<Size>(sizeof(T));
   const Size stride = s.strides[2];
   Size groups = 0;
   for (Size first = 0; first * stride < s.out[2]; first += n)
      for (Size q = 0; q < stride; ++q, ++groups) {
         std::int32_t *const head = to;
         to += conv_spread_pair;
         for (Size k = 0; k < s.kernel[2]; ++k) {
            const Size distance = q + s.pads[2] - k * s.dilations[2];
            if (distance % stride != 0)
               continue;
            const Size from = first + distance / stride, rest = s.in[2] - from;
            const Size begin = from < 0 ? -from : 0, end = rest < n ? rest : n;
            if (begin >= end)
               continue;
            to[0] = static_cast<std::int32_t>((k * step + from) * bytes);
            to[1] = conv_spread_bits(begin, end);
            to += conv_spread_pair;
         }
         head[0] = static_cast<std::int32_t>((to - head - conv_spread_pair) * static_cast<Size>(sizeof(*to)));
         const Size left = s.out[2] - (first * stride + q * n);
         head[1] = conv_spread_bits(0, stride > 2 || left >= n ? n : left > 0 ? left : 0);
      }
   return groups;
}

/// Which rows of products belong to each row of the output at one depth: to[h], ..., to[h + 1] are
/// the first and the end of those of row h, which are bytes from a feature's first product on. Of
/// depths, and of lines, as many are kept as `kept` says, in turn.
template <class T>
SOFIE_KERNEL void conv_spread_lines(const ConvShape &s, const Sizes<2> &kept, Size depth, Size step, std::int32_t *to)
{
   const Size bytes = static_cast<Size>(sizeof(T));
   std::int32_t *next = to + s.out[1] + 1;
   for (Size h = 0; h < s.out[1]; ++h) {
      to[h] = static_cast<std::int32_t>(next - to);
      for (Size d = 0; d < s.kernel[0]; ++d) {
         const Size front = depth + s.pads[0] - d * s.dilations[0];
         if (front < 0 || front % s.strides[0] != 0 || front / s.strides[0] >= s.in[0])
            continue;
         for (Size k = 0; k < s.kernel[1]; ++k) {
            const Size top = h + s.pads[1] - k * s.dilations[1];
            if (top < 0 || top % s.strides[1] != 0 || top / s.strides[1] >= s.in[1])
               continue;
            const Size line = front / s.strides[0] % kept[0] * s.in[1] + top / s.strides[1] % kept[1];
            const Size tap = (d * s.kernel[1] + k) * s.kernel[2];
            *next++ = static_cast<std::int32_t>((tap * step + line * s.in[2]) * bytes);
         }
      }
   }
   to[s.out[1]] = static_cast<std::int32_t>(next - to);
}

/// So many features are summed up side by side.
inline constexpr Size conv_spread_features = 4;

/// A row of outputs: the lines that it is a sum of, its groups, or pairs of them, and the bytes between
/// products of features. Where it goes: `to`, features are `next` bytes apart there.
template <class T>
struct ConvSpreadRow {
   const std::int32_t *lines, *lines_end, *groups;
   Size count, distance;
   T *to;
   Size next;
   T start[2 * conv_spread_features];
   T floor;
};

#ifdef SOFIE_TILE_ASSEMBLER
// clang-format off
// What differs: masks 1, 2 and 3, which are registers of their own or have the lanes whose bits are set; what sums start
// with; and how even and odd outputs of a feature become one row.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_SPREAD_BEGIN "vmovups (%[place]), %%zmm21\n\tvmovups 64(%[place]), %%zmm22\n\t"
#define SOFIE_SPREAD_MASK(number, place) "kmovw " place ", %%k" #number "\n\t"
#define SOFIE_SPREAD_KEEP_MASK "kmovw %%k2, %%k3\n\t"
#define SOFIE_SPREAD_ADD(place, a) "vaddps " place ", %%zmm" #a ", %%zmm" #a "%{%%k1%}\n\t"
#define SOFIE_SPREAD_PUT_SOME(mask, a, place) SOFIE_SPREAD_FLOOR(a) "vmovups %%zmm" #a ", " place "%{%%k" #mask "%}\n\t"
// Even and odd outputs of a feature in turn.
#define SOFIE_SPREAD_TURN(put, a, b, place)                                \
   "vmovaps %%zmm21, %%zmm8\n\t"                                           \
   "vpermi2ps %%zmm" #b ", %%zmm" #a ", %%zmm8\n\t"                        \
   "vpermt2ps %%zmm" #b ", %%zmm22, %%zmm" #a "\n\t"                       \
   put(3, 8, place) put(2, a, "64" place)
#define SOFIE_SPREAD_WHOLE_OR_SOME(puts) puts(SOFIE_SPREAD_PUT_SOME)
#define SOFIE_SPREAD_REGISTERS "k2", "k3", SOFIE_DENSE_REGISTERS
#else
#define SOFIE_SPREAD_BEGIN "vmovups (%[place]), %%ymm12\n\t"
#define SOFIE_SPREAD_LANES_1 "%%ymm9"
#define SOFIE_SPREAD_LANES_2 "%%ymm10"
#define SOFIE_SPREAD_LANES_3 "%%ymm11"
#define SOFIE_SPREAD_MASK_OF(lanes, place) \
   "vpbroadcastd " place ", " lanes "\n\tvpand %%ymm12, " lanes ", " lanes "\n\tvpcmpeqd %%ymm12, " lanes ", " lanes "\n\t"
#define SOFIE_SPREAD_MASK(number, place) SOFIE_SPREAD_MASK_OF(SOFIE_SPREAD_LANES_##number, place)
#define SOFIE_SPREAD_KEEP_MASK "vmovaps %%ymm10, %%ymm11\n\t"
#define SOFIE_SPREAD_ADD(place, a) \
   "vmaskmovps " place ", %%ymm9, %%ymm8\n\tvaddps %%ymm8, %%ymm" #a ", %%ymm" #a "\n\t"
#define SOFIE_SPREAD_PUT(mask, a, place) SOFIE_SPREAD_FLOOR(a) "vmovups %%ymm" #a ", " place "\n\t"
#define SOFIE_SPREAD_PUT_SOME(mask, a, place) \
   SOFIE_SPREAD_FLOOR(a) "vmaskmovps %%ymm" #a ", " SOFIE_SPREAD_LANES_##mask ", " place "\n\t"
#define SOFIE_SPREAD_TURN(put, a, b, place)                                \
   "vunpcklps %%ymm" #b ", %%ymm" #a ", %%ymm8\n\t"                        \
   "vunpckhps %%ymm" #b ", %%ymm" #a ", %%ymm" #b "\n\t"                   \
   "vperm2f128 $0x31, %%ymm" #b ", %%ymm8, %%ymm" #a "\n\t"                \
   "vinsertf128 $1, %%xmm" #b ", %%ymm8, %%ymm8\n\t"                       \
   put(3, 8, place) put(2, a, "32" place)
// Where there is a third mask, it is that of all lanes or has more of them than the second one.
#define SOFIE_SPREAD_WHOLE_OR_SOME(puts)                                   \
   "vmovmskps %%ymm10, %k[line]\n\t"                                       \
   "cmp $255, %k[line]\n\t"                                                \
   "jne 5f\n\t"                                                            \
   puts(SOFIE_SPREAD_PUT)                                                  \
   "jmp 6f\n"                                                              \
   "5:\n\t"                                                                \
   puts(SOFIE_SPREAD_PUT_SOME)                                             \
   "6:\n\t"
#define SOFIE_SPREAD_REGISTERS SOFIE_DENSE_REGISTERS
#endif
#define SOFIE_SPREAD_START(number, a) "vbroadcastss %c[row_start]+4*" #number "(%[row]), " SOFIE_PACK(a) "\n\t"
#define SOFIE_SPREAD_FLOOR(a) "vmaxps " SOFIE_PACK(a) ", " SOFIE_PACK(13) ", " SOFIE_PACK(a) "\n\t"
// The sums of a group for four features; the lanes of a pack that exist are in mask 2.
#define SOFIE_SPREAD_SUM(a, b, c, d)                                       \
   SOFIE_SPREAD_START(0, a) SOFIE_SPREAD_START(1, b)                       \
   SOFIE_SPREAD_START(2, c) SOFIE_SPREAD_START(3, d)                       \
   "movslq (%[groups]), %[end]\n\t"                                        \
   SOFIE_SPREAD_MASK(2, "4(%[groups])")                                    \
   "add $8, %[groups]\n\t"                                                 \
   "add %[groups], %[end]\n\t"                                             \
   "mov %c[row_lines](%[row]), %[line]\n\t"                                    \
   "cmp %c[row_lines_end](%[row]), %[line]\n\t"                                \
   "je 4f\n\t"                                                             \
   "cmp %[end], %[groups]\n\t"                                             \
   "je 4f\n"                                                               \
   "2:\n\t"                                                                \
   "movslq (%[line]), %[at]\n\t"                                           \
   "mov %[groups], %[each]\n\t"                                            \
   "add %[z], %[at]\n"                                                     \
   "3:\n\t"                                                                \
   "movslq (%[each]), %[place]\n\t"                                        \
   SOFIE_SPREAD_MASK(1, "4(%[each])")                                      \
   "add %[at], %[place]\n\t"                                               \
   SOFIE_SPREAD_ADD("(%[place])", a)                                       \
   SOFIE_SPREAD_ADD("(%[place],%[one])", b)                                \
   SOFIE_SPREAD_ADD("(%[place],%[one],2)", c)                              \
   SOFIE_SPREAD_ADD("(%[place],%[three])", d)                              \
   "add $8, %[each]\n\t"                                                   \
   "cmp %[end], %[each]\n\t"                                               \
   "jne 3b\n\t"                                                            \
   "add $4, %[line]\n\t"                                                   \
   "cmp %c[row_lines_end](%[row]), %[line]\n\t"                                \
   "jne 2b\n"                                                              \
   "4:\n\t"                                                                \
   "mov %[end], %[groups]\n\t"

#define SOFIE_SPREAD_PUTS_1(put)                                           \
   put(2, 0, "(%[to])") put(2, 1, "(%[to],%[at])") put(2, 2, "(%[to],%[at],2)") put(2, 3, "(%[to],%[each])")
#define SOFIE_SPREAD_PUTS_2(put)                                           \
   SOFIE_SPREAD_TURN(put, 0, 4, "(%[to])") SOFIE_SPREAD_TURN(put, 1, 5, "(%[to],%[at])")                               \
   SOFIE_SPREAD_TURN(put, 2, 6, "(%[to],%[at],2)") SOFIE_SPREAD_TURN(put, 3, 7, "(%[to],%[each])")
#define SOFIE_SPREAD_ONE                                                   \
   SOFIE_SPREAD_SUM(0, 1, 2, 3)                                            \
   SOFIE_SPREAD_NEXT                                                       \
   SOFIE_SPREAD_WHOLE_OR_SOME(SOFIE_SPREAD_PUTS_1)                         \
   "add $" SOFIE_PACK_BYTES ", %[to]\n\t"
#define SOFIE_SPREAD_TWO                                                   \
   SOFIE_SPREAD_SUM(0, 1, 2, 3)                                            \
   SOFIE_SPREAD_KEEP_MASK                                                  \
   SOFIE_SPREAD_SUM(4, 5, 6, 7)                                            \
   SOFIE_SPREAD_NEXT                                                       \
   SOFIE_SPREAD_WHOLE_OR_SOME(SOFIE_SPREAD_PUTS_2)                         \
   "add $2*" SOFIE_PACK_BYTES ", %[to]\n\t"

// Behind the sums `at` and `each` are free: they become one and three times the distance.
#define SOFIE_SPREAD_NEXT "mov %c[row_next](%[row]), %[at]\n\tlea (%[at],%[at],2), %[each]\n\t"
#define SOFIE_SPREAD_ROW(sums)                                             \
   asm volatile(                                                           \
      SOFIE_SPREAD_BEGIN                                                   \
      "vbroadcastss %c[row_floor](%[row]), " SOFIE_PACK(13) "\n"           \
      "1:\n\t"                                                             \
      sums                                                                 \
      "dec %[count]\n\t"                                                   \
      "jnz 1b\n\t"                                                         \
      : [to] "+&r"(to), [groups] "+&r"(groups), [count] "+&r"(count), [line] "=&r"(line), [end] "=&r"(end),             \
        [each] "=&r"(each), [at] "=&r"(at), [place] "+&r"(place)                                                       \
      : [z] "r"(z), [row] "r"(&row), [one] "r"(row.distance), [three] "r"(3 * row.distance),                            \
        SOFIE_MEMBERS(row, ConvSpreadRow<float>, lines, lines_end, next, start, floor)                                 \
      : "memory", "cc", SOFIE_SPREAD_REGISTERS)
// clang-format on

/// Four features: to[feature][group][lane] = max(start[feature] + the sum of products, floor), or with
/// Stride 2 the lanes of two groups in turn.
template <int Stride>
SOFIE_KERNEL void conv_spread_row(const float *z, const ConvSpreadRow<float> &row)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   static const std::int32_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                          8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#else
   static const std::int32_t order[8] = {1, 2, 4, 8, 16, 32, 64, 128}; // The bit of each lane.
#endif
   const std::int32_t *groups = row.groups, *line, *end, *each, *place = order;
   float *to = row.to;
   Size count = row.count, at;
   if constexpr (Stride == 2)
      SOFIE_SPREAD_ROW(SOFIE_SPREAD_TWO);
   else
      SOFIE_SPREAD_ROW(SOFIE_SPREAD_ONE);
}
#endif

/// The sums of a group for all features; the result is the end of what is said about it.
template <class T>
SOFIE_INLINE const std::int32_t *conv_spread_sum(const T *z, const ConvSpreadRow<T> &row, const std::int32_t *group,
                                                 Pack<T> (&sum)[conv_spread_features])
{
   constexpr int n = lanes<T>, features = static_cast<int>(conv_spread_features);
   using Mask = MaskOf<Pack<T>>;
   using Lane = ElementOf<Mask>;
   constexpr Size bytes = static_cast<Size>(sizeof(T));
   Mask bit{};
   for (int i = 0; i < n; ++i)
      bit[i] = static_cast<Lane>(Lane{1} << i);
   const std::int32_t *const first = group + conv_spread_pair;
   const std::int32_t *const end = first + group[0] / static_cast<Size>(sizeof(*group));
   SOFIE_UNROLL_ALL
   for (int m = 0; m < features; ++m)
      sum[m] = splat<Pack<T>>(row.start[m]);
   for (const std::int32_t *line = row.lines; line != row.lines_end; ++line)
      for (const std::int32_t *each = first; each != end; each += conv_spread_pair) {
         const T *const from = z + (*line + each[0]) / bytes;
         const Mask exists = (splat<Mask>(static_cast<Lane>(each[1])) & bit) != Mask{};
         SOFIE_UNROLL_ALL
         for (int m = 0; m < features; ++m)
            sum[m] = select(exists, plus(sum[m], load<n>(from + m * (row.distance / bytes))), sum[m]);
      }
   SOFIE_UNROLL_ALL
   for (int m = 0; m < features; ++m)
      sum[m] = select(sum[m] < splat<Pack<T>>(row.floor), splat<Pack<T>>(row.floor), sum[m]);
   return end;
}

/// v where its lanes exist, as bits
template <class T>
SOFIE_INLINE void conv_spread_put(T *to, Pack<T> v, std::int32_t exists)
{
   Size count = 0;
   while (exists >> count)
      ++count;
   if (count)
      store_some(to, v, count);
}

template <int Stride, class T>
SOFIE_KERNEL void conv_spread_row(const T *z, const ConvSpreadRow<T> &row)
{
   constexpr Size n = lanes<T>;
   const std::int32_t *group = row.groups;
   Pack<T> sum[conv_spread_features], odd[conv_spread_features];
   for (Size g = 0; g < row.count; ++g) {
      const std::int32_t low = group[1];
      group = conv_spread_sum(z, row, group, sum);
      const std::int32_t high = Stride == 2 ? group[1] : 0;
      if constexpr (Stride == 2)
         group = conv_spread_sum(z, row, group, odd);
      for (Size m = 0; m < conv_spread_features; ++m) {
         T *const to = row.to + m * (row.next / static_cast<Size>(sizeof(T))) + g * Stride * n;
         if constexpr (Stride == 2) {
            conv_spread_put(to, in_turn<0>(sum[m], odd[m]), low);
            conv_spread_put(to + n, in_turn<n / 2>(sum[m], odd[m]), high);
         } else
            conv_spread_put(to, sum[m], low);
      }
   }
}

} // namespace sofie

SOFIE_END

#endif
