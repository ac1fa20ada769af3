/// \file
/// Rows that are resized along themselves, in assembler: sixteen results at a time out of registers.
#ifndef SOFIE_KERNELS_RESAMPLING_LANES_HXX
#define SOFIE_KERNELS_RESAMPLING_LANES_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/transpose/blocks.hxx"

SOFIE_BEGIN

namespace sofie {

/// Sixteen numbers of 4 bytes of a row that is resized: which numbers they are made of, one or two each, counted from
/// `first` on (which is in bytes), or, where these are too far apart for two registers, from the begin of the row.
struct ResizedPack {
   Size first;
   std::int32_t index[2][16];
};

/// How many integers of 8 bytes the packs of so many results take, at most.
inline Size resized_packs_size(Size results)
{
   return (results + 15) / 16 * static_cast<Size>(sizeof(ResizedPack) / sizeof(std::int64_t));
}

#ifdef SOFIE_TRANSPOSE_ASSEMBLER

/// Rows of numbers, all of which are resized in the same way. Distances are in bytes.
struct ResizedRows {
   float *to;
   const float *from;
   /// Row i of the result is row order[i * ordered] of those at `from`, which then go on by `next`.
   const std::int64_t *order;
   Size ordered, next;
   Size rows, to_step, from_step;
   const ResizedPack *packs;
   /// All packs but the last one.
   Size whole;
   /// What the numbers count, where two are a result: the first ones, and how far behind them the second ones are.
   const float *weights;
   Size second;
   /// Which numbers there are of the first and the second register, and of the last pack.
   Size masks[3];
};

// clang-format off
#define SOFIE_RESIZED_PLACE(at, index)                                  \
   "vmovups " at "(%[pack]), %%zmm" #index "\n\t"
#define SOFIE_RESIZED_NEAR_1                                            \
   "mov %c[pack_first](%[pack]), %[place]\n\t"                          \
   "vmovups (%[row],%[place]), %%zmm0%{%%k1%}%{z%}\n\t"                 \
   "vmovups 64(%[row],%[place]), %%zmm1%{%%k2%}%{z%}\n\t"               \
   SOFIE_RESIZED_PLACE("8", 2)                                          \
   "vpermi2ps %%zmm1, %%zmm0, %%zmm2\n\t"
#define SOFIE_RESIZED_NEAR_2                                            \
   SOFIE_RESIZED_NEAR_1                                                 \
   SOFIE_RESIZED_PLACE("72", 3)                                         \
   "vpermi2ps %%zmm1, %%zmm0, %%zmm3\n\t"
#define SOFIE_RESIZED_FAR(at, to)                                       \
   SOFIE_RESIZED_PLACE(at, 0)                                           \
   "kxnorw %%k5, %%k5, %%k5\n\t"                                        \
   "vpxord %%zmm" #to ", %%zmm" #to ", %%zmm" #to "\n\t"                \
   "vgatherdps (%[row],%%zmm0,4), %%zmm" #to "%{%%k5%}\n\t"
#define SOFIE_RESIZED_FAR_1 SOFIE_RESIZED_FAR("8", 2)
#define SOFIE_RESIZED_FAR_2 SOFIE_RESIZED_FAR_1 SOFIE_RESIZED_FAR("72", 3)
// What counts for nothing does not contribute, even if it is infinite.
#define SOFIE_RESIZED_SUM(last)                                         \
   "vmovups (%[weight]), %%zmm4" last "\n\t"                            \
   "vmovups (%[weight],%[second]), %%zmm5" last "\n\t"                  \
   "vcmpneqps %%zmm6, %%zmm4, %%k5\n\t"                                 \
   "vcmpneqps %%zmm6, %%zmm5, %%k6\n\t"                                 \
   "vmulps %%zmm4, %%zmm2, %%zmm2%{%%k5%}%{z%}\n\t"                     \
   "vmulps %%zmm5, %%zmm3, %%zmm3%{%%k6%}%{z%}\n\t"                     \
   "vaddps %%zmm6, %%zmm2, %%zmm2\n\t"                                  \
   "vaddps %%zmm3, %%zmm2, %%zmm2\n\t"                                  \
   "add $64, %[weight]\n\t"
#define SOFIE_RESIZED_NO_SUM(last)
#define SOFIE_RESIZED_ROWS(numbers, sum)                                                                       \
   asm volatile(                                                                                               \
      "kmovw %c[of_masks](%[of]), %%k1\n\t"                                                                    \
      "kmovw 8+%c[of_masks](%[of]), %%k2\n\t"                                                                  \
      "kmovw 16+%c[of_masks](%[of]), %%k3\n\t"                                                                 \
      "vpxord %%zmm6, %%zmm6, %%zmm6\n"                                                                        \
      "1:\n\t"                                                                                                 \
      "mov (%[order]), %[row]\n\t"                                                                             \
      "imul %c[of_from_step](%[of]), %[row]\n\t"                                                               \
      "add %[from], %[row]\n\t"                                                                                \
      "add %c[of_ordered](%[of]), %[order]\n\t"                                                                \
      "add %c[of_next](%[of]), %[from]\n\t"                                                                    \
      "mov %c[of_packs](%[of]), %[pack]\n\t"                                                                   \
      "mov %c[of_weights](%[of]), %[weight]\n\t"                                                               \
      "mov %[to], %[at]\n\t"                                                                                   \
      "mov %c[of_whole](%[of]), %[packs]\n\t"                                                                  \
      "jmp 3f\n"                                                                                               \
      "2:\n\t"                                                                                                 \
      numbers                                                                                                  \
      sum("")                                                                                                  \
      "vmovups %%zmm2, (%[at])\n\t"                                                                            \
      "add %[pack_bytes], %[pack]\n\t"                                                                                  \
      "add $64, %[at]\n"                                                                                       \
      "3:\n\t"                                                                                                 \
      "dec %[packs]\n\t"                                                                                       \
      "jns 2b\n\t"                                                                                             \
      numbers                                                                                                  \
      sum("%{%%k3%}%{z%}")                                                                                     \
      "vmovups %%zmm2, (%[at])%{%%k3%}\n\t"                                                                    \
      "add %c[of_to_step](%[of]), %[to]\n\t"                                                                   \
      "dec %[rows]\n\t"                                                                                        \
      "jnz 1b\n\t"                                                                                             \
      : [to] "+&r"(to), [from] "+&r"(from), [order] "+&r"(order), [rows] "+&r"(left), [row] "=&r"(row),        \
        [pack] "=&r"(pack), [weight] "=&r"(weight), [at] "=&r"(at), [packs] "=&r"(packs), [place] "=&r"(place) \
      : [of] "r"(&rows),                                                                                       \
        SOFIE_MEMBERS(of, ResizedRows, ordered, next, to_step, from_step, packs, whole, weights, masks),       \
        SOFIE_MEMBERS(pack, ResizedPack, first, index), [pack_bytes] "i"(sizeof(ResizedPack)),                 \
        [second] "r"(rows.second)                                                                              \
      : "memory", "cc", "k1", "k2", "k3", "k5", "k6", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6")
// clang-format on

/// All rows; of one number each result or of two, which are near each other in a pack or not.
template <int Taps, bool Near>
SOFIE_KERNEL void resize_rows_in_lanes(const ResizedRows &rows)
{
   float *to = rows.to, *at;
   const float *from = rows.from, *row, *weight;
   const std::int64_t *order = rows.order;
   const ResizedPack *pack;
   Size left = rows.rows, packs, place;
   if constexpr (Taps == 1 && Near)
      SOFIE_RESIZED_ROWS(SOFIE_RESIZED_NEAR_1, SOFIE_RESIZED_NO_SUM);
   else if constexpr (Taps == 1)
      SOFIE_RESIZED_ROWS(SOFIE_RESIZED_FAR_1, SOFIE_RESIZED_NO_SUM);
   else if constexpr (Near)
      SOFIE_RESIZED_ROWS(SOFIE_RESIZED_NEAR_2, SOFIE_RESIZED_SUM);
   else
      SOFIE_RESIZED_ROWS(SOFIE_RESIZED_FAR_2, SOFIE_RESIZED_SUM);
}

/// How one axis is resized, `unit` numbers together.
struct ResizedLine {
   ResizedRows rows{};
   int taps = 0;
   bool near = true;

   /// `index` says of which elements the results are made, all first ones before all second ones.
   void plan(int of, Size from, Size to, Size unit, const std::int64_t *index, const float *weights, ResizedPack *packs)
   {
      constexpr Size side = 16;
      taps = of;
      const Size numbers = to * unit, existing = from * unit, count = (numbers + side - 1) / side;
      for (int t = 0; t < taps; ++t) {
         Size element = 0, inside = 0;
         for (Size n = 0; n < count * side; ++n) {
            // Behind the last number there are others that are as near.
            packs[n / side].index[t][n % side] = static_cast<std::int32_t>(index[t * to + element] * unit + inside);
            inside = n + 1 < numbers ? inside + 1 : inside;
            element = inside == unit ? element + 1 : element;
            inside = inside == unit ? 0 : inside;
         }
      }
      const Size last = existing > 2 * side ? existing - 2 * side : 0;
      for (Size p = 0; p < count; ++p) {
         std::int32_t least = packs[p].index[0][0], most = least;
         for (int t = 0; t < taps; ++t)
            for (Size i = 0; i < side; ++i) {
               const std::int32_t source = packs[p].index[t][i];
               least = source < least ? source : least;
               most = source > most ? source : most;
            }
         packs[p].first = least < last ? least : last;
         near = near && most - packs[p].first < 2 * side;
      }
      for (Size p = 0; near && p < count; ++p) {
         for (int t = 0; t < taps; ++t)
            for (Size i = 0; i < side; ++i)
               packs[p].index[t][i] -= static_cast<std::int32_t>(packs[p].first);
         packs[p].first *= 4;
      }
      rows.to_step = numbers * 4;
      rows.from_step = existing * 4;
      rows.packs = packs;
      rows.whole = count - 1;
      rows.weights = weights;
      rows.second = to * 4;
      rows.masks[0] = mask_of_pack(existing);
      rows.masks[1] = mask_of_pack(existing - side);
      rows.masks[2] = mask_of_pack(numbers - rows.whole * side);
   }

   /// `count` rows, one after the other or in some order.
   void resize(float *to, const float *from, Size count, const std::int64_t *order)
   {
      constexpr std::int64_t first = 0;
      rows.to = to;
      rows.from = from;
      rows.rows = count;
      rows.order = order ? order : &first;
      rows.ordered = order ? sizeof(std::int64_t) : 0;
      rows.next = order ? 0 : rows.from_step;
      if (count <= 0)
         return;
      if (taps == 1)
         near ? resize_rows_in_lanes<1, true>(rows) : resize_rows_in_lanes<1, false>(rows);
      else
         near ? resize_rows_in_lanes<2, true>(rows) : resize_rows_in_lanes<2, false>(rows);
   }
};

#endif

} // namespace sofie

SOFIE_END

#endif
