/// \file
/// Products of matrices with features side by side in the lanes, and what convolutions make of them.
///
/// sums[j][m] = sum_k w[k][m] * x[offsets[k] + j * step]: weights are packs, inputs are broadcast. So
/// images of any width fill the tile, and a step may be a stride. Results are then turned round, 16 x 16
/// at a time, into rows of the output.
#ifndef SOFIE_KERNELS_CONVOLUTION_LANES_PRODUCT_HXX
#define SOFIE_KERNELS_CONVOLUTION_LANES_PRODUCT_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/convolution/tile.hxx"

SOFIE_BEGIN

namespace sofie {

/// Features of a tile: two registers of floats. A row of sums is as long.
inline constexpr Size lanes_features = 32;

#ifdef SOFIE_AVX512_ASSEMBLER

// The product --------------------------------------------------------------------------------------

// clang-format off
// A number of x times the packs of a row of w, which are in zmm28 and zmm29.
#define SOFIE_FEATURES_FMA_1(x, number, a, b) "vfmadd231ps " x "%{1to16%}, %%zmm28, %%zmm" #a "\n\t"
#define SOFIE_FEATURES_FMA_2(x, number, a, b)                    \
   "vbroadcastss " x ", %%zmm" #number "\n\t"                 \
   "vfmadd231ps %%zmm28, %%zmm" #number ", %%zmm" #a "\n\t"   \
   "vfmadd231ps %%zmm29, %%zmm" #number ", %%zmm" #b "\n\t"
#define SOFIE_FEATURES_ROW_1 "vmovups (%[w]), %%zmm28\n\tadd $64, %[w]\n\t"
#define SOFIE_FEATURES_ROW_2 "vmovups (%[w]), %%zmm28\n\tvmovups 64(%[w]), %%zmm29\n\tadd $128, %[w]\n\t"

// The lines of weights that follow those of a row.
#define SOFIE_FEATURES_NEXT_1 "prefetcht1 (%[next])\n\t"
#define SOFIE_FEATURES_NEXT_2 SOFIE_FEATURES_NEXT_1 "prefetcht1 64(%[next])\n\t"

// The columns of a half.
#define SOFIE_FEATURES_FIRST_2(fma) fma("(%[at])", 30, 0, 1) fma("(%[at],%[step])", 31, 2, 3)
#define SOFIE_FEATURES_FIRST_4(fma)             \
   SOFIE_FEATURES_FIRST_2(fma)                  \
   fma("(%[at],%[step],2)", 30, 4, 5)        \
   fma("(%[at],%[step3])", 31, 6, 7)
#define SOFIE_FEATURES_FIRST_5(fma) SOFIE_FEATURES_FIRST_4(fma) fma("(%[at],%[step],4)", 30, 8, 9)
#define SOFIE_FEATURES_FIRST_6(fma) SOFIE_FEATURES_FIRST_5(fma) fma("(%[at],%[step5])", 31, 10, 11)
#define SOFIE_FEATURES_FIRST_7(fma) SOFIE_FEATURES_FIRST_6(fma) fma("(%[at],%[step3],2)", 30, 12, 13)
#define SOFIE_FEATURES_SECOND_2(fma) fma("(%[too])", 31, 14, 15) fma("(%[too],%[step])", 30, 16, 17)
#define SOFIE_FEATURES_SECOND_4(fma)            \
   SOFIE_FEATURES_SECOND_2(fma)                 \
   fma("(%[too],%[step],2)", 31, 18, 19)     \
   fma("(%[too],%[step3])", 30, 20, 21)
#define SOFIE_FEATURES_SECOND_5(fma) SOFIE_FEATURES_SECOND_4(fma) fma("(%[too],%[step],4)", 31, 22, 23)
#define SOFIE_FEATURES_SECOND_6(fma) SOFIE_FEATURES_SECOND_5(fma) fma("(%[too],%[step5])", 30, 24, 25)
#define SOFIE_FEATURES_SECOND_7(fma) SOFIE_FEATURES_SECOND_6(fma) fma("(%[too],%[step3],2)", 31, 26, 27)

// `each` of the registers of a column of the tile, and its place in the sums.
#define SOFIE_FEATURES_ZERO(place, a) "vpxord %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_FEATURES_ADD(place, a) "vaddps " #place "(%[at]), %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_FEATURES_STORE(place, a) "vmovups %%zmm" #a ", " #place "(%[at])\n\t"
#define SOFIE_FEATURES_COLUMN_1(each, row, a, b) each(128 * (row), a)
#define SOFIE_FEATURES_COLUMN_2(each, row, a, b) each(128 * (row), a) each(128 * (row) + 64, b)
#define SOFIE_FEATURES_EACH_FIRST_2(column, each) column(each, 0, 0, 1) column(each, 1, 2, 3)
#define SOFIE_FEATURES_EACH_FIRST_4(column, each)                           \
   SOFIE_FEATURES_EACH_FIRST_2(column, each) column(each, 2, 4, 5) column(each, 3, 6, 7)
#define SOFIE_FEATURES_EACH_FIRST_5(column, each) SOFIE_FEATURES_EACH_FIRST_4(column, each) column(each, 4, 8, 9)
#define SOFIE_FEATURES_EACH_FIRST_6(column, each) SOFIE_FEATURES_EACH_FIRST_5(column, each) column(each, 5, 10, 11)
#define SOFIE_FEATURES_EACH_FIRST_7(column, each) SOFIE_FEATURES_EACH_FIRST_6(column, each) column(each, 6, 12, 13)
#define SOFIE_FEATURES_EACH_SECOND_2(column, each, row) column(each, row, 14, 15) column(each, row + 1, 16, 17)
#define SOFIE_FEATURES_EACH_SECOND_4(column, each, row)                     \
   SOFIE_FEATURES_EACH_SECOND_2(column, each, row) column(each, row + 2, 18, 19) column(each, row + 3, 20, 21)
#define SOFIE_FEATURES_EACH_SECOND_5(column, each, row) SOFIE_FEATURES_EACH_SECOND_4(column, each, row) column(each, row + 4, 22, 23)
#define SOFIE_FEATURES_EACH_SECOND_6(column, each, row) SOFIE_FEATURES_EACH_SECOND_5(column, each, row) column(each, row + 5, 24, 25)
#define SOFIE_FEATURES_EACH_SECOND_7(column, each, row) SOFIE_FEATURES_EACH_SECOND_6(column, each, row) column(each, row + 6, 26, 27)

#define SOFIE_FEATURES_EACH_1(half, column, each) SOFIE_FEATURES_EACH_FIRST_##half(column, each)
#define SOFIE_FEATURES_EACH_2(half, column, each) \
   SOFIE_FEATURES_EACH_FIRST_##half(column, each) SOFIE_FEATURES_EACH_SECOND_##half(column, each, half)
#define SOFIE_FEATURES_STEP_1(half, fma) SOFIE_FEATURES_FIRST_##half(fma)
#define SOFIE_FEATURES_STEP_2(half, fma) SOFIE_FEATURES_FIRST_##half(fma) SOFIE_FEATURES_SECOND_##half(fma)

// Weights that are wanted next are asked for some at each step: they come from far away. So do lines of results, if
// there are some to ask for: a store would wait for each.
#define SOFIE_FEATURES_PRODUCT(halves, half, packs)                                                                   \
   asm volatile(                                                                                                      \
      SOFIE_FEATURES_EACH_##halves(half, SOFIE_FEATURES_COLUMN_##packs, SOFIE_FEATURES_ZERO)                          \
      "test %[k], %[k]\n\t"                                                                                           \
      "jle 2f\n\t"                                                                                                    \
      ".p2align 5\n"                                                                                                  \
      "1:\n\t"                                                                                                        \
      "movslq (%[offsets]), %[too]\n\t"                                                                               \
      "lea (%[first],%[too],4), %[at]\n\t"                                                                            \
      "lea (%[second],%[too],4), %[too]\n\t"                                                                          \
      SOFIE_FEATURES_ROW_##packs                                                                                      \
      SOFIE_FEATURES_STEP_##halves(half, SOFIE_FEATURES_FMA_##packs)                                                  \
      SOFIE_FEATURES_NEXT_##packs                                                                                     \
      "add %[some], %[next]\n\t"                                                                                      \
      "test %[k], %c[end_seldom](%[end])\n\t"                                                                         \
      "jnz 4f\n\t"                                                                                                    \
      "cmp %c[end_last](%[end]), %[k]\n\t"                                                                            \
      "jle 4f\n\t"                                                                                                    \
      "mov %c[end_line](%[end]), %[at]\n\t"                                                                           \
      "prefetchw (%[at])\n\t"                                                                                         \
      "add %c[end_apart](%[end]), %[at]\n\t"                                                                          \
      "mov %[at], %c[end_line](%[end])\n"                                                                             \
      "4:\n\t"                                                                                                        \
      "add $4, %[offsets]\n\t"                                                                                        \
      "dec %[k]\n\t"                                                                                                  \
      "jnz 1b\n"                                                                                                      \
      "2:\n\t"                                                                                                        \
      "mov %c[end_sums](%[end]), %[at]\n\t"                                                                           \
      "cmpl $0, %c[end_add](%[end])\n\t"                                                                              \
      "je 3f\n\t"                                                                                                     \
      SOFIE_FEATURES_EACH_##halves(half, SOFIE_FEATURES_COLUMN_##packs, SOFIE_FEATURES_ADD)                           \
      "3:\n\t"                                                                                                        \
      SOFIE_FEATURES_EACH_##halves(half, SOFIE_FEATURES_COLUMN_##packs, SOFIE_FEATURES_STORE)                         \
      : [w] "+&r"(w), [offsets] "+&r"(offsets), [k] "+&r"(depth), [next] "+&r"(next), [at] "=&r"(at), [too] "=&r"(too) \
      : [first] "r"(first), [second] "r"(second), [step] "r"(step), [step3] "r"(3 * step), [step5] "r"(5 * step),     \
        [some] "r"(some), [end] "r"(&end),                                                                            \
        SOFIE_MEMBERS(end, FeaturesEnd, sums, add, seldom, last, line, apart)                                         \
      : "memory", "cc", SOFIE_ALL_PACKS)
#define SOFIE_FEATURES_PRODUCT_OF(half, packs)                 \
   if constexpr (Half == half && Halves == 2)                  \
      SOFIE_FEATURES_PRODUCT(2, half, packs);                  \
   else if constexpr (Half == half)                            \
      SOFIE_FEATURES_PRODUCT(1, half, packs);
// clang-format on

/// Where the sums of a tile go, and whether what is there comes first; and which lines of results are asked for while
/// it is computed: at each step k, which counts down to 1, that has no bit of `seldom` and is above `last`.
struct FeaturesEnd {
   float *sums;
   Size add;
   Size seldom, last;
   const char *line;
   Size apart;
};

/// Results of some tiles, which will be written to rows of y: where those of the first one begin, how far the next one
/// is along a row, how many rows there are, and how far apart, in bytes.
struct LanesWanted {
   const char *y;
   Size along, rows, apart;
};

/// sums[i * Half + j][m] (+)= sum_k w[k][m] * from[i][offsets[k] + j * step] for `Half` numbers j, for
/// i = 0 or both, and for 16 or 32 features; the step is in bytes. Of what is at `next`, `some` bytes are
/// asked for at each step.
template <int Half, int Halves, int Packs>
SOFIE_KERNEL void lanes_product(const float *w, const float *first, const float *second, Size step,
                                const std::int32_t *offsets, Size depth, const char *next, Size some, FeaturesEnd &end)
{
   static_assert((Half == 2 || (Half >= 4 && Half <= 7)) && Packs <= 2, "there are registers for two halves of 7");
   Size at, too;
   if constexpr (Packs == 2) {
      SOFIE_FEATURES_PRODUCT_OF(2, 2)
      SOFIE_FEATURES_PRODUCT_OF(4, 2)
      SOFIE_FEATURES_PRODUCT_OF(5, 2)
      SOFIE_FEATURES_PRODUCT_OF(6, 2)
      SOFIE_FEATURES_PRODUCT_OF(7, 2)
   } else {
      SOFIE_FEATURES_PRODUCT_OF(2, 1)
      SOFIE_FEATURES_PRODUCT_OF(4, 1)
      SOFIE_FEATURES_PRODUCT_OF(5, 1)
      SOFIE_FEATURES_PRODUCT_OF(6, 1)
      SOFIE_FEATURES_PRODUCT_OF(7, 1)
   }
}

/// The same for `count` halves, which begin at x + at[i]: a few of them from 64.
inline constexpr Size lanes_most = 64;
/// Lines of results are asked for at each eighth step at least.
inline constexpr Size lanes_seldom = 8;
/// The steps that half a tile takes before and behind its products, and the columns of the largest one.
inline constexpr Size lanes_half_steps = 120, lanes_most_half = 7;

template <int Half, int Packs>
SOFIE_KERNEL void lanes_products_of(float *sums, const float *w, const float *x, const std::int32_t *at, Size count,
                                    Size step, const std::int32_t *offsets, Size depth, bool add,
                                    const LanesWanted &wanted)
{
   // The weights behind these come next.
   const char *next = reinterpret_cast<const char *>(w + depth * Packs * lanes<float>);
   const Size tiles = (count + 1) / 2, some = ceil_div(Size{64 * Packs}, tiles);
   Size often = 1;
   while (2 * often * wanted.rows <= depth && often < lanes_seldom)
      often *= 2;
   FeaturesEnd end{sums, add, often - 1, depth - often * wanted.rows, wanted.y, wanted.apart};
   Size i = 0;
   for (; i + 1 < count; i += 2, next += depth * some) {
      end.sums = sums + i * Half * lanes_features;
      end.line = wanted.y + i / 2 * wanted.along;
      lanes_product<Half, 2, Packs>(w, x + at[i], x + at[i + 1], step, offsets, depth, next, some, end);
   }
   if (i < count) {
      end.sums = sums + i * Half * lanes_features;
      end.line = wanted.y + i / 2 * wanted.along;
      lanes_product<Half, 1, Packs>(w, x + at[i], x + at[i], step, offsets, depth, next, some, end);
   }
}

/// How many features a panel of weights has: 16 if no more are left.
SOFIE_INLINE Size lanes_panel(Size left)
{
   return left > lanes<float> ? lanes_features : Size{lanes<float>};
}

/// The columns of half a tile, and the products with a panel of 32 features and of 16. Numbers do not depend on it.
struct LanesTile {
   using Products = void (*)(float *sums, const float *w, const float *x, const std::int32_t *at, Size count, Size step,
                             const std::int32_t *offsets, Size depth, bool add, const LanesWanted &wanted);
   Size half;
   Products wide, narrow;

   SOFIE_INLINE Products products(Size panel) const { return panel == lanes<float> ? narrow : wide; }
};

/// Panels of 16 features are there only where `Short` says so.
template <int Half, bool Short>
SOFIE_INLINE LanesTile lanes_tile()
{
   if constexpr (Short)
      return {Half, &lanes_products_of<Half, 2>, &lanes_products_of<Half, 1>};
   else
      return {Half, &lanes_products_of<Half, 2>, nullptr};
}

/// The tile that takes the least time for so many columns, each of `depth` products, of those that can do `line` of
/// them at a time. See kernels/lanes.py.
template <bool Short>
SOFIE_KERNEL LanesTile lanes_best_tile(Size columns, Size depth, Size line)
{
   const LanesTile tiles[] = {lanes_tile<7, Short>(), lanes_tile<6, Short>(), lanes_tile<5, Short>(),
                              lanes_tile<4, Short>(), lanes_tile<2, Short>()};
   LanesTile best = tiles[0];
   Size least = 0;
   for (const LanesTile &tile : tiles) {
      const Size time = ceil_div(columns, tile.half) * (depth * (2 * tile.half + 1) + lanes_half_steps);
      if (line <= lanes_most * tile.half && (least == 0 || time < least)) {
         best = tile;
         least = time;
      }
   }
   return best;
}

// Rows and columns change places -------------------------------------------------------------------

/// to[r * stride + j] = max(from[j * pitch + r] + bias[r] + added[r * stride + j], floor) for `quads` * 4
/// numbers r and those of 16 columns j of which the mask has a bit; there may be no bias and nothing
/// added. Strides and pitches are in bytes. 16 rows of `from` are read.
struct LanesTranspose {
   const float *from;
   float *to;
   const float *bias, *added;
   Size pitch, stride, quads, mask;
   float floor;
};

// clang-format off
// Four numbers of each of four rows, four rows apart.
#define SOFIE_FEATURES_GATHER(place, a)                                      \
   "vmovups (%[from0]" place "), %%xmm" #a "\n\t"                         \
   "vinsertf32x4 $1, (%[from1]" place "), %%zmm" #a ", %%zmm" #a "\n\t"   \
   "vinsertf32x4 $2, (%[from2]" place "), %%zmm" #a ", %%zmm" #a "\n\t"   \
   "vinsertf32x4 $3, (%[from3]" place "), %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_FEATURES_PLUS(number, a) "vaddps " #number "*4(%[bias])%{1to16%}, %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_FEATURES_ADDED(place, a) "vaddps (%[added]" place "), %%zmm" #a ", %%zmm" #a "%{%%k1%}\n\t"
#define SOFIE_FEATURES_RESULT(place, a)                   \
   "vmaxps %%zmm" #a ", %%zmm31, %%zmm" #a "\n\t"      \
   "vmovups %%zmm" #a ", (%[to]" place ")%{%%k1%}\n\t"

SOFIE_KERNEL inline void lanes_transpose(const LanesTranspose &turn)
{
   const float *from0 = turn.from, *bias = turn.bias, *added = turn.added;
   const char *bytes = reinterpret_cast<const char *>(from0);
   const float *from1 = reinterpret_cast<const float *>(bytes + 4 * turn.pitch);
   const float *from2 = reinterpret_cast<const float *>(bytes + 8 * turn.pitch);
   const float *from3 = reinterpret_cast<const float *>(bytes + 12 * turn.pitch);
   float *to = turn.to;
   Size quads = turn.quads;
   const LanesTranspose *own = &turn;
   if (quads <= 0)
      return;
   asm volatile(
      "kmovw %c[own_mask](%[stride3]), %%k1\n\t"
      "vbroadcastss %c[own_floor](%[stride3]), %%zmm31\n\t"
      "lea (%[stride],%[stride],2), %[stride3]\n\t"
      ".p2align 5\n"
      "1:\n\t"
      SOFIE_FEATURES_GATHER("", 0)
      SOFIE_FEATURES_GATHER(",%[pitch]", 1)
      SOFIE_FEATURES_GATHER(",%[pitch],2", 2)
      SOFIE_FEATURES_GATHER(",%[pitch3]", 3)
      "vunpcklps %%zmm1, %%zmm0, %%zmm4\n\t"
      "vunpckhps %%zmm1, %%zmm0, %%zmm5\n\t"
      "vunpcklps %%zmm3, %%zmm2, %%zmm6\n\t"
      "vunpckhps %%zmm3, %%zmm2, %%zmm7\n\t"
      // Columns that do not exist may be denormal numbers.
      "vunpcklpd %%zmm6, %%zmm4, %%zmm0%{%%k1%}%{z%}\n\t"
      "vunpckhpd %%zmm6, %%zmm4, %%zmm1%{%%k1%}%{z%}\n\t"
      "vunpcklpd %%zmm7, %%zmm5, %%zmm2%{%%k1%}%{z%}\n\t"
      "vunpckhpd %%zmm7, %%zmm5, %%zmm3%{%%k1%}%{z%}\n\t"
      "test %[bias], %[bias]\n\t"
      "jz 2f\n\t"
      SOFIE_FEATURES_PLUS(0, 0) SOFIE_FEATURES_PLUS(1, 1) SOFIE_FEATURES_PLUS(2, 2) SOFIE_FEATURES_PLUS(3, 3)
      "add $16, %[bias]\n\t"
      "2:\n\t"
      "test %[added], %[added]\n\t"
      "jz 3f\n\t"
      SOFIE_FEATURES_ADDED("", 0) SOFIE_FEATURES_ADDED(",%[stride]", 1)
      SOFIE_FEATURES_ADDED(",%[stride],2", 2) SOFIE_FEATURES_ADDED(",%[stride3]", 3)
      "lea (%[added],%[stride],4), %[added]\n\t"
      "3:\n\t"
      SOFIE_FEATURES_RESULT("", 0) SOFIE_FEATURES_RESULT(",%[stride]", 1)
      SOFIE_FEATURES_RESULT(",%[stride],2", 2) SOFIE_FEATURES_RESULT(",%[stride3]", 3)
      "lea (%[to],%[stride],4), %[to]\n\t"
      "add $16, %[from0]\n\t"
      "add $16, %[from1]\n\t"
      "add $16, %[from2]\n\t"
      "add $16, %[from3]\n\t"
      "dec %[quads]\n\t"
      "jnz 1b\n\t"
      : [from0] "+&r"(from0), [from1] "+&r"(from1), [from2] "+&r"(from2), [from3] "+&r"(from3), [to] "+&r"(to),
        [bias] "+&r"(bias), [added] "+&r"(added), [quads] "+&r"(quads), [stride3] "+&r"(own)
      : SOFIE_MEMBERS(own, LanesTranspose, mask, floor), [pitch] "r"(turn.pitch), [pitch3] "r"(3 * turn.pitch),
        [stride] "r"(turn.stride)
      : "memory", "cc", "k1", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm31");
}
// clang-format on

#endif

} // namespace sofie

SOFIE_END

#endif
