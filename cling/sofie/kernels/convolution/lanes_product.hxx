/// \file
/// Products of matrices with features side by side in the lanes, and what convolutions make of them.
///
/// sums[j][m] = sum_k w[k][m] * x[offsets[k] + j * step]: weights are packs, inputs are broadcast. So
/// images of any width fill the tile, and a step may be a stride. Results are then turned round, a pack
/// of columns at a time, into rows of the output.
///
/// A tile of AVX-512 is two halves of up to 7 columns. AVX2 has room for 6 columns, and registers for the
/// address of each: there a half is one column, and a tile has up to 6 of them.
#ifndef SOFIE_KERNELS_CONVOLUTION_LANES_PRODUCT_HXX
#define SOFIE_KERNELS_CONVOLUTION_LANES_PRODUCT_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/convolution/tile.hxx"
#include "sofie/kernels/transpose/lanes_transpose.hxx"

SOFIE_BEGIN

namespace sofie {

/// Features of a tile: two registers of floats. A row of sums is as long.
inline constexpr Size lanes_features = 2 * lanes<float>;

#ifdef SOFIE_TILE_ASSEMBLER

// The product --------------------------------------------------------------------------------------

/// Where the sums of a tile go, and whether what is there comes first; and what is asked for while it is computed:
/// `some` bytes of the weights that come next at each step, and lines of results at each step k, which counts down to
/// 1, that has no bit of `seldom` and is above `last`.
struct FeaturesEnd {
   float *sums;
   Size add, some;
   Size seldom, last;
   const char *line;
   Size apart;
};

/// Weights of the steps of a tile, of which a row is `row` bytes behind the one before; where each step reads; and the
/// weights that come next, which nobody has to know beforehand.
struct FeaturesSteps {
   const float *w;
   const std::int32_t *offsets;
   Size depth, row;
   const char *next = nullptr;
};

/// Results of some tiles, which will be written to rows of y: where those of the first one begin, how far the next one
/// is along a row, how many rows there are, and how far apart, in bytes.
struct LanesWanted {
   const char *y;
   Size along, rows, apart;
};

// clang-format off
// Weights that are wanted next are asked for some at each step: they come from far away. So do lines of results, if
// there are some to ask for: a store would wait for each.
#define SOFIE_FEATURES_STEPS(places, row, step, next)                                                                 \
   "test %[k], %[k]\n\t"                                                                                              \
   "jle 2f\n\t"                                                                                                      \
   ".p2align 5\n"                                                                                                     \
   "1:\n\t"                                                                                                          \
   places row step next                                                                                               \
   "add %c[end_some](%[end]), %[next]\n\t"                                                                           \
   "test %[k], %c[end_seldom](%[end])\n\t"                                                                           \
   "jnz 4f\n\t"                                                                                                      \
   "cmp %c[end_last](%[end]), %[k]\n\t"                                                                              \
   "jle 4f\n\t"                                                                                                      \
   "mov %c[end_line](%[end]), %[at]\n\t"                                                                             \
   "prefetchw (%[at])\n\t"                                                                                           \
   "add %c[end_apart](%[end]), %[at]\n\t"                                                                            \
   "mov %[at], %c[end_line](%[end])\n"                                                                                \
   "4:\n\t"                                                                                                          \
   "add $4, %[offsets]\n\t"                                                                                          \
   "dec %[k]\n\t"                                                                                                    \
   "jnz 1b\n"                                                                                                         \
   "2:\n\t"
#define SOFIE_FEATURES_SUMS(add, store)                                                                               \
   "mov %c[end_sums](%[end]), %[at]\n\t"                                                                             \
   "cmpl $0, %c[end_add](%[end])\n\t"                                                                                \
   "je 3f\n\t"                                                                                                       \
   add                                                                                                                \
   "3:\n\t"                                                                                                          \
   store
#define SOFIE_FEATURES_MEMBERS SOFIE_MEMBERS(end, FeaturesEnd, sums, add, some, seldom, last, line, apart)
// A tile has one pack of features or two, and so many columns as the assembler is told: of each the place of its number
// of x, a register for that, and its sums, which are rows of two packs. Packs of a row of w are in two registers.
#define SOFIE_FEATURES_IF(column, text) ".if %c[columns] > " #column "\n\t" text ".endif\n\t"
#define SOFIE_FEATURES_IF_2(text) ".if %c[packs] > 1\n\t" text ".endif\n\t"
#define SOFIE_FEATURES_PLACE(row) "2*" SOFIE_PACK_BYTES "*(" row ")"
#define SOFIE_FEATURES_ADD_AT(place, a) "vaddps " place "(%[at]), " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_FEATURES_STORE_AT(place, a) "vmovups " SOFIE_PACK(a) ", " place "(%[at])\n\t"
#define SOFIE_FEATURES_ZERO(row, x, number, a, b) SOFIE_DENSE_ZERO(a) SOFIE_FEATURES_IF_2(SOFIE_DENSE_ZERO(b))
#define SOFIE_FEATURES_ADD(row, x, number, a, b)                                                                      \
   SOFIE_FEATURES_ADD_AT(SOFIE_FEATURES_PLACE(row), a)                                                                \
   SOFIE_FEATURES_IF_2(SOFIE_FEATURES_ADD_AT(SOFIE_FEATURES_PLACE(row) "+" SOFIE_PACK_BYTES, b))
#define SOFIE_FEATURES_STORE(row, x, number, a, b)                                                                    \
   SOFIE_FEATURES_STORE_AT(SOFIE_FEATURES_PLACE(row), a)                                                              \
   SOFIE_FEATURES_IF_2(SOFIE_FEATURES_STORE_AT(SOFIE_FEATURES_PLACE(row) "+" SOFIE_PACK_BYTES, b))
#define SOFIE_FEATURES_FMA(row, x, number, a, b)                                                                      \
   ".if %c[packs] > 1\n\t"                                                                                            \
   "vbroadcastss " x ", " SOFIE_PACK(number) "\n\t"                                                                   \
   "vfmadd231ps " SOFIE_FEATURES_W0 ", " SOFIE_PACK(number) ", " SOFIE_PACK(a) "\n\t"                                 \
   "vfmadd231ps " SOFIE_FEATURES_W1 ", " SOFIE_PACK(number) ", " SOFIE_PACK(b) "\n\t"                                 \
   ".else\n\t"                                                                                                        \
   SOFIE_FEATURES_NARROW(x, number, a)                                                                                \
   ".endif\n\t"
#define SOFIE_FEATURES_ROW                                                                                            \
   "vmovups (%[w]), " SOFIE_FEATURES_W0 "\n\t"                                                                        \
   SOFIE_FEATURES_IF_2("vmovups " SOFIE_PACK_BYTES "(%[w]), " SOFIE_FEATURES_W1 "\n\t")                               \
   "add %[row], %[w]\n\t"

#ifdef SOFIE_AVX512_ASSEMBLER
/// Halves of a tile, how many are done at a time, for a line of tiles of Winograd as well; and lines of results are asked
/// for at each eighth step at least.
inline constexpr Size lanes_halves = 2, lanes_most = 64, lanes_line = lanes_most, lanes_seldom = 8;

#define SOFIE_FEATURES_W0 "%%zmm28"
#define SOFIE_FEATURES_W1 "%%zmm29"
#define SOFIE_FEATURES_NARROW(x, number, a) "vfmadd231ps " x "%{1to16%}, %%zmm28, %%zmm" #a "\n\t"
// The columns of a half, and of the other one.
#define SOFIE_FEATURES_EACH(each)                                                                                     \
   each("0", "(%[at])", 30, 0, 1) each("1", "(%[at],%[step])", 31, 2, 3)                                              \
   SOFIE_FEATURES_IF(2, each("2", "(%[at],%[step],2)", 30, 4, 5) each("3", "(%[at],%[step3])", 31, 6, 7))             \
   SOFIE_FEATURES_IF(4, each("4", "(%[at],%[step],4)", 30, 8, 9))                                                     \
   SOFIE_FEATURES_IF(5, each("5", "(%[at],%[step5])", 31, 10, 11))                                                    \
   SOFIE_FEATURES_IF(6, each("6", "(%[at],%[step3],2)", 30, 12, 13))                                                  \
   ".if %c[halves] > 1\n\t"                                                                                           \
   each("%c[columns]", "(%[too])", 31, 14, 15) each("%c[columns]+1", "(%[too],%[step])", 30, 16, 17)                  \
   SOFIE_FEATURES_IF(2, each("%c[columns]+2", "(%[too],%[step],2)", 31, 18, 19)                                       \
                        each("%c[columns]+3", "(%[too],%[step3])", 30, 20, 21))                                       \
   SOFIE_FEATURES_IF(4, each("%c[columns]+4", "(%[too],%[step],4)", 31, 22, 23))                                      \
   SOFIE_FEATURES_IF(5, each("%c[columns]+5", "(%[too],%[step5])", 30, 24, 25))                                       \
   SOFIE_FEATURES_IF(6, each("%c[columns]+6", "(%[too],%[step3],2)", 31, 26, 27))                                     \
   ".endif\n\t"
#define SOFIE_FEATURES_PLACES                                                                                         \
   "movslq (%[offsets]), %[too]\n\t"                                                                                  \
   "lea (%[first],%[too],4), %[at]\n\t"                                                                               \
   "lea (%[second],%[too],4), %[too]\n\t"
// clang-format on

/// sums[i * Half + j][m] (+)= sum_k w[k][m] * from[i][offsets[k] + j * step] for `Half` numbers j, for
/// i = 0 or both, and for 16 or 32 features; the step is in bytes. What is at `next` is asked for.
template <int Half, int Halves, int Packs>
SOFIE_KERNEL void lanes_product(const FeaturesSteps &of, const float *first, const float *second, Size step,
                                FeaturesEnd &end)
{
   auto [w, offsets, depth, row, next] = of;
   static_assert((Half == 2 || (Half >= 4 && Half <= 7)) && Packs <= 2, "there are registers for two halves of 7");
   Size at, too;
   // clang-format off
   asm volatile(
      SOFIE_FEATURES_EACH(SOFIE_FEATURES_ZERO)
      SOFIE_FEATURES_STEPS(SOFIE_FEATURES_PLACES, SOFIE_FEATURES_ROW, SOFIE_FEATURES_EACH(SOFIE_FEATURES_FMA),
                           "prefetcht1 (%[next])\n\t" SOFIE_FEATURES_IF_2("prefetcht1 64(%[next])\n\t"))
      SOFIE_FEATURES_SUMS(SOFIE_FEATURES_EACH(SOFIE_FEATURES_ADD), SOFIE_FEATURES_EACH(SOFIE_FEATURES_STORE))
      : [w] "+&r"(w), [offsets] "+&r"(offsets), [k] "+&r"(depth), [next] "+&r"(next), [at] "=&r"(at), [too] "=&r"(too)
      : [first] "r"(first), [second] "r"(second), [step] "r"(step), [step3] "r"(3 * step), [step5] "r"(5 * step),
        [row] "r"(row), [end] "r"(&end), SOFIE_FEATURES_MEMBERS, [columns] "i"(Half), [halves] "i"(Halves),
        [packs] "i"(Packs)
      : "memory", "cc", SOFIE_ALL_PACKS);
   // clang-format on
}

/// Of one half or two, which begin at x + at[i].
template <int Half, int Packs>
SOFIE_INLINE void lanes_tile_product(const FeaturesSteps &of, const float *x, const std::int32_t *at, Size halves,
                                     Size step, FeaturesEnd &end)
{
   if (halves == 2)
      lanes_product<Half, 2, Packs>(of, x + at[0], x + at[1], step, end);
   else
      lanes_product<Half, 1, Packs>(of, x + at[0], x + at[0], step, end);
}

#else

// clang-format off
#define SOFIE_FEATURES_W0 "%%ymm12"
#define SOFIE_FEATURES_W1 "%%ymm13"
#define SOFIE_FEATURES_NARROW(x, number, a) \
   "vbroadcastss " x ", %%ymm" #number "\n\tvfmadd231ps %%ymm12, %%ymm" #number ", %%ymm" #a "\n\t"
#define SOFIE_FEATURES_EACH(each)                                                                                     \
   each("0", "(%[x0],%[at],4)", 14, 0, 1)                                                                             \
   SOFIE_FEATURES_IF(1, each("1", "(%[x1],%[at],4)", 15, 2, 3))                                                       \
   SOFIE_FEATURES_IF(2, each("2", "(%[x2],%[at],4)", 14, 4, 5))                                                       \
   SOFIE_FEATURES_IF(3, each("3", "(%[x3],%[at],4)", 15, 6, 7))                                                       \
   SOFIE_FEATURES_IF(4, each("4", "(%[x4],%[at],4)", 14, 8, 9))                                                       \
   SOFIE_FEATURES_IF(5, each("5", "(%[x5],%[at],4)", 15, 10, 11))
// Where a column reads from. That of the last one is where the address of all was.
#define SOFIE_FEATURES_BEGIN(column, x)                                                                           \
   SOFIE_FEATURES_IF(column, "movslq 4*" #column "(%[at]), %[" #x "]\n\tlea (%[x5],%[" #x "],4), %[" #x "]\n\t")
#define SOFIE_FEATURES_BEGINS                                                                                     \
   SOFIE_FEATURES_BEGIN(0, x0) SOFIE_FEATURES_BEGIN(1, x1) SOFIE_FEATURES_BEGIN(2, x2)                            \
   SOFIE_FEATURES_BEGIN(3, x3) SOFIE_FEATURES_BEGIN(4, x4)                                                        \
   SOFIE_FEATURES_IF(5, "movslq 4*5(%[at]), %[at]\n\tlea (%[x5],%[at],4), %[x5]\n\t")
// clang-format on

/// sums[i][m] (+)= sum_k w[k][m] * x[at[i] + offsets[k]] for `Columns` numbers i and for 8 or 16 features. What is at
/// `next` is asked for.
template <int Columns, int Packs>
SOFIE_KERNEL void lanes_product(const FeaturesSteps &of, const float *x, const std::int32_t *at, FeaturesEnd &end)
{
   auto [w, offsets, depth, row, next] = of;
   const float *x0, *x1, *x2, *x3, *x4;
   // clang-format off
   asm volatile(
      SOFIE_FEATURES_BEGINS
      SOFIE_FEATURES_EACH(SOFIE_FEATURES_ZERO)
      SOFIE_FEATURES_STEPS("movslq (%[offsets]), %[at]\n\t", SOFIE_FEATURES_ROW,
                           SOFIE_FEATURES_EACH(SOFIE_FEATURES_FMA), "prefetcht1 (%[next])\n\t")
      SOFIE_FEATURES_SUMS(SOFIE_FEATURES_EACH(SOFIE_FEATURES_ADD), SOFIE_FEATURES_EACH(SOFIE_FEATURES_STORE))
      : [w] "+&r"(w), [x5] "+&r"(x), [at] "+&r"(at), [offsets] "+&r"(offsets), [k] "+&r"(depth), [next] "+&r"(next),
        [x0] "=&r"(x0), [x1] "=&r"(x1), [x2] "=&r"(x2), [x3] "=&r"(x3), [x4] "=&r"(x4)
      : [row] "r"(row), [end] "r"(&end), SOFIE_FEATURES_MEMBERS, [columns] "i"(Columns), [packs] "i"(Packs)
      : "memory", "cc", SOFIE_ALL_YMM);
   // clang-format on
}

inline constexpr Size lanes_halves = 6, lanes_most = 126, lanes_line = 448, lanes_seldom = 8;

/// Of so many columns, which begin at x + at[i].
template <int, int Packs>
SOFIE_INLINE void lanes_tile_product(const FeaturesSteps &of, const float *x, const std::int32_t *at, Size columns,
                                     Size, FeaturesEnd &end)
{
   if (columns == 6)
      lanes_product<6, Packs>(of, x, at, end);
   else if (columns == 5)
      lanes_product<5, Packs>(of, x, at, end);
   else if (columns == 4)
      lanes_product<4, Packs>(of, x, at, end);
   else if (columns == 3)
      lanes_product<3, Packs>(of, x, at, end);
   else if (columns == 2)
      lanes_product<2, Packs>(of, x, at, end);
   else
      lanes_product<1, Packs>(of, x, at, end);
}

#endif

/// The steps that half a tile takes before and behind its products, and the columns of the largest one.
inline constexpr Size lanes_half_steps = 120, lanes_most_half = SOFIE_SIMD_BYTES == 64 ? 7 : 1;

/// The same for `count` halves.
template <int Half, int Packs>
SOFIE_KERNEL void lanes_products_of(float *sums, FeaturesSteps of, const float *x, const std::int32_t *at, Size count,
                                    Size step, bool add, const LanesWanted &wanted)
{
   const Size tiles = ceil_div(count, lanes_halves), depth = of.depth;
   Size often = 1;
   while (2 * often * wanted.rows <= depth && often < lanes_seldom)
      often *= 2;
   FeaturesEnd end{sums, add, ceil_div(of.row, tiles), often - 1, depth - often * wanted.rows, wanted.y, wanted.apart};
   // The weights behind these come next.
   of.next = reinterpret_cast<const char *>(of.w) + depth * of.row;
   for (Size i = 0, tile = 0, halves = 0; tile < tiles; ++tile, i += halves, of.next += depth * end.some) {
      // Columns are divided among the tiles that are left.
      const Size left = count - i;
      halves = lanes_halves > 2 ? ceil_div(left, tiles - tile) : left < 2 ? left : 2;
      end.sums = sums + i * Half * lanes_features;
      end.line = wanted.y + tile * wanted.along;
      lanes_tile_product<Half, Packs>(of, x, at + i, halves, step, end);
   }
}

/// How many features a panel of weights has: a pack if no more are left.
SOFIE_INLINE Size lanes_panel(Size left)
{
   return left > lanes<float> ? lanes_features : Size{lanes<float>};
}

/// The columns of half a tile, and the products with a panel of two packs of features and of one. Numbers do not depend
/// on it.
struct LanesTile {
   using Products = void (*)(float *sums, FeaturesSteps of, const float *x, const std::int32_t *at, Size count,
                             Size step, bool add, const LanesWanted &wanted);
   Size half;
   Products wide, narrow;

   SOFIE_INLINE Products products(Size panel) const { return panel == lanes<float> ? narrow : wide; }
};

/// Panels of 16 features are there only where `Short` says so. AVX2 has other panels.
template <int Half, bool Short>
SOFIE_INLINE LanesTile lanes_tile()
{
   if constexpr (SOFIE_SIMD_BYTES < 64)
      return {1, &lanes_products_of<1, 2>, &lanes_products_of<1, 1>};
   else if constexpr (Short)
      return {Half, &lanes_products_of<Half, 2>, &lanes_products_of<Half, 1>};
   else
      return {Half, &lanes_products_of<Half, 2>, nullptr};
}

/// The tile that takes the least time for so many columns, each of `depth` products, of those that can do `line` of
/// them at a time, and whose halves have no more than `most`, or two. See kernels/lanes.py.
template <bool Short>
SOFIE_KERNEL LanesTile lanes_best_tile(Size columns, Size depth, Size line, Size most = lanes_most_half)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   const LanesTile tiles[] = {lanes_tile<7, Short>(), lanes_tile<6, Short>(), lanes_tile<5, Short>(),
                              lanes_tile<4, Short>(), lanes_tile<2, Short>()};
#else
   const LanesTile tiles[] = {lanes_tile<1, Short>()};
#endif
   LanesTile best = tiles[0];
   Size least = 0;
   for (const LanesTile &tile : tiles) {
      const Size time = ceil_div(columns, tile.half) * (depth * (2 * tile.half + 1) + lanes_half_steps);
      if (line <= lanes_most * tile.half && (tile.half <= most || tile.half <= 2) && (least == 0 || time < least)) {
         best = tile;
         least = time;
      }
   }
   return best;
}

#endif

} // namespace sofie

SOFIE_END

#endif
