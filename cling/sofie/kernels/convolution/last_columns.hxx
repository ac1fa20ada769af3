/// \file
/// The last columns of a product of weights and a matrix, with features in the lanes.
///
/// A register of columns of which few exist takes as long as a full one. Of up to four columns four registers have a
/// feature in each lane instead; the weights are those of `ConvWeights`, of which a register takes two panels. Images
/// that have few columns each are done together, so that weights are read for four columns at a time.
#ifndef SOFIE_KERNELS_CONVOLUTION_LAST_COLUMNS_HXX
#define SOFIE_KERNELS_CONVOLUTION_LAST_COLUMNS_HXX

#include "sofie/kernels/dense/tile.hxx"

#ifdef SOFIE_TILE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// The columns of such a tile, its registers of features, and those from which another kernel is as fast.
inline constexpr Size conv_last_columns = 4, conv_last_groups = SOFIE_SIMD_BYTES == 64 ? 4 : 2;
inline constexpr Size conv_last_most = SOFIE_SIMD_BYTES == 64 ? 8 : 7;

/// A tile: weights, and the numbers of its columns, some bytes behind the first. Distances are in bytes: from a panel
/// of weights to the next, and from a step to the next.
struct ConvLastColumns {
   const float *w, *x;
   float *sums;
   Size panel, pitch, depth;
   Size second, third, fourth; // columns
   Size add;                   // whether what is in `sums` comes first
};

// clang-format off
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_LAST_WEIGHTS(a, first, second)                                            \
   "vmovups " first ", %%ymm" #a "\n\tvinsertf64x4 $1, " second ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_LAST_IF_3(text) ".if %c[groups] > 2\n\t" text ".endif\n\t"
#define SOFIE_LAST_LOADS                                                               \
   SOFIE_LAST_WEIGHTS(16, "(%[w])", "(%[w],%[panel])")                                  \
   SOFIE_LAST_IF_2(SOFIE_LAST_WEIGHTS(17, "(%[w],%[panel],2)", "(%[w],%[panel3])"))      \
   SOFIE_LAST_IF_3(SOFIE_LAST_WEIGHTS(18, "(%[w4])", "(%[w4],%[panel])")                 \
                   SOFIE_LAST_WEIGHTS(19, "(%[w4],%[panel],2)", "(%[w4],%[panel3])"))
#define SOFIE_LAST_COLUMN(place, x, a, b, c, d)                                          \
   "vbroadcastss " place ", %%zmm" #x "\n\t"                                            \
   SOFIE_LAST_ADD(16, x, a) SOFIE_LAST_IF_2(SOFIE_LAST_ADD(17, x, b))                   \
   SOFIE_LAST_IF_3(SOFIE_LAST_ADD(18, x, c) SOFIE_LAST_ADD(19, x, d))
#define SOFIE_LAST_PRODUCTS                                                             \
   SOFIE_LAST_COLUMN("(%[x])", 20, 0, 4, 8, 12)                                          \
   SOFIE_LAST_COLUMN("(%[x],%[second])", 21, 1, 5, 9, 13)                                \
   SOFIE_LAST_COLUMN("(%[x],%[third])", 22, 2, 6, 10, 14)                                \
   SOFIE_LAST_COLUMN("(%[x],%[fourth])", 23, 3, 7, 11, 15)
#else
#define SOFIE_LAST_WEIGHTS(a, first, second)                                            \
   "vmovups " first ", %%xmm" #a "\n\tvinsertf128 $1, " second ", %%ymm" #a ", %%ymm" #a "\n\t"
#define SOFIE_LAST_IF_3(text)
#define SOFIE_LAST_LOADS                                                               \
   SOFIE_LAST_WEIGHTS(8, "(%[w])", "(%[w],%[panel])")                                   \
   SOFIE_LAST_IF_2(SOFIE_LAST_WEIGHTS(9, "(%[w],%[panel],2)", "(%[w],%[panel3])"))
#define SOFIE_LAST_COLUMN(place, x, a, b)                                                \
   "vbroadcastss " place ", %%ymm" #x "\n\t"                                            \
   SOFIE_LAST_ADD(8, x, a) SOFIE_LAST_IF_2(SOFIE_LAST_ADD(9, x, b))
#define SOFIE_LAST_PRODUCTS                                                             \
   SOFIE_LAST_COLUMN("(%[x])", 10, 0, 4) SOFIE_LAST_COLUMN("(%[x],%[second])", 11, 1, 5)  \
   SOFIE_LAST_COLUMN("(%[x],%[third])", 12, 2, 6) SOFIE_LAST_COLUMN("(%[x],%[fourth])", 13, 3, 7)
#endif
#define SOFIE_LAST_IF_2(text) ".if %c[groups] > 1\n\t" text ".endif\n\t"
#define SOFIE_LAST_ADD(w, x, a) \
   "vfmadd231ps " SOFIE_PACK(w) ", " SOFIE_PACK(x) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_LAST_EACH(each)                                                           \
   each(0) each(1) each(2) each(3)                                                      \
   SOFIE_LAST_IF_2(each(4) each(5) each(6) each(7))                                     \
   SOFIE_LAST_IF_3(each(8) each(9) each(10) each(11) each(12) each(13) each(14) each(15))
#define SOFIE_LAST_MORE(a) SOFIE_DENSE_ADD_AT(a, "(%[k])")
#define SOFIE_LAST_STORE(a) SOFIE_DENSE_STORE_AT(a, "(%[k])")
// clang-format on

/// sums[group][column][lane] (+)= sum_k w[group, lane][k] * x[k][column]; there is a step at least.
template <int Groups>
SOFIE_KERNEL void conv_last_columns_tile(const ConvLastColumns &of)
{
   const float *w = of.w, *w4 = reinterpret_cast<const float *>(reinterpret_cast<const char *>(of.w) + 4 * of.panel);
   const float *x = of.x;
   Size k = of.depth;
   // clang-format off
   asm volatile(
      SOFIE_LAST_EACH(SOFIE_DENSE_ZERO)
      ".p2align 5\n"
      "1:\n\t"
      SOFIE_LAST_LOADS
      SOFIE_LAST_PRODUCTS
      "add %[step], %[w]\n\t"
      "add %[step], %[w4]\n\t"
      "add %[pitch], %[x]\n\t"
      "dec %[k]\n\t"
      "jnz 1b\n\t"
      "mov %c[of_sums](%[of]), %[k]\n\t"
      "cmpq $0, %c[of_add](%[of])\n\t"
      "je 2f\n\t"
      SOFIE_LAST_EACH(SOFIE_LAST_MORE)
      "2:\n\t"
      SOFIE_LAST_EACH(SOFIE_LAST_STORE)
      : [w] "+&r"(w), [w4] "+&r"(w4), [x] "+&r"(x), [k] "+&r"(k)
      : [panel] "r"(of.panel), [panel3] "r"(3 * of.panel), [pitch] "r"(of.pitch), [second] "r"(of.second),
        [third] "r"(of.third), [fourth] "r"(of.fourth), [of] "r"(&of), [groups] "i"(Groups),
        [step] "i"(dense_tile_rows * static_cast<int>(sizeof(float))), SOFIE_MEMBERS(of, ConvLastColumns, sums, add)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}

/// What becomes of such sums: y[m][j] = max(sums + bias[m] + added[m][j], floor), where features are `stride`
/// elements apart; bias and added may be absent.
struct ConvLastTarget {
   float *y;
   const float *added, *bias;
   Size stride;
   float floor;

   /// The same for results that are `elements` further.
   SOFIE_INLINE ConvLastTarget behind(Size elements) const
   {
      return {y + elements, added ? added + elements : nullptr, bias, stride, floor};
   }
};

/// Of features `first`, ..., `features - 1`, whose results are side by side, and one column; registers of sums are
/// `apart` elements apart.
SOFIE_KERNEL inline void conv_last_columns_row(const ConvLastTarget &to, const float *sums, Size apart, Size first,
                                               Size features)
{
   constexpr Size n = lanes<float>;
   using V = Pack<float>;
   const V floor = splat<V>(to.floor);
   for (Size m = first, some; m < features; m += some) {
      const Size lane = m % n;
      some = (features < m - lane + n ? features : m - lane + n) - m;
      V v = plus(load_some<n>(sums + m / n * apart + lane, some), to.bias ? load_some<n>(to.bias + m, some) : V{});
      if (to.added)
         v = plus(v, load_some<n>(to.added + m, some));
      store_some(to.y + m, select(floor > v, floor, v), some);
   }
}

/// Four features of four columns. What Cling has in registers it writes to memory at each branch: here is none.
SOFIE_INLINE void conv_last_columns_whole(float *y, Size stride, const PackN<float, 4> (&rows)[4],
                                          PackN<float, 4> floor)
{
   SOFIE_UNROLL_ALL
   for (Size i = 0; i < 4; ++i)
      store(y + i * stride, select(floor > rows[i], floor, rows[i]));
}

/// Of features `first`, ..., `features - 1` and up to four columns.
SOFIE_KERNEL inline void conv_last_columns_results(const ConvLastTarget &to, const float *sums, Size first,
                                                   Size features, Size columns)
{
   using V = PackN<float, 4>;
   constexpr Size n = lanes<float>;
   const V floor = splat<V>(to.floor);
   const float zeros[4] = {};
   for (Size m = first; m < features; m += 4) {
      const float *const from = sums + m / n * conv_last_columns * n + m % n;
      const Size some = features - m < 4 ? features - m : 4;
      const V bias = load_some<4>(to.bias ? to.bias + m : zeros, some);
      V rows[4] = {plus(load<4>(from), bias), plus(load<4>(from + n), bias), plus(load<4>(from + 2 * n), bias),
                   plus(load<4>(from + 3 * n), bias)};
      transpose(rows);
      if (some == 4 && columns == 4 && !to.added) {
         conv_last_columns_whole(to.y + m * to.stride, to.stride, rows, floor);
         continue;
      }
      for (Size i = 0; i < some; ++i) {
         const Size at = (m + i) * to.stride;
         V v = rows[i];
         if (to.added)
            v = plus(v, load_some<4>(to.added + at, columns));
         store_some(to.y + at, select(floor > v, floor, v), columns);
      }
   }
}

/// Weights of `features` features in panels that are `panel` bytes apart, and a matrix whose rows are `pitch` bytes
/// apart, of which `part` rows are summed in registers at a time. The results of features before `first` are there.
struct ConvLastProduct {
   const float *w, *x;
   Size panel, pitch, depth, part, features, first = 0;
};

/// Images of so many columns each, and the elements from one to the next: of matrices, and of results.
struct ConvLastImages {
   Size count, columns, from, to;

   /// Where a column is that is counted through all images.
   SOFIE_INLINE Size place(Size column) const { return column / columns * from + column % columns; }
};

template <int Groups>
SOFIE_KERNEL void conv_last_columns_features(const ConvLastTarget &to, const ConvLastProduct &of,
                                             const ConvLastImages &images, bool whole)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   // Results of some columns look like those of four.
   float sums[(Groups + 1) * conv_last_columns * n];
   const Size columns = images.count * images.columns;
   for (Size column = 0; column < columns; column += conv_last_columns) {
      const Size some = columns - column < conv_last_columns ? columns - column : conv_last_columns, last = some - 1;
      // What is no column is the last one again, and so is what is no panel.
      const Size first = images.place(column), second = images.place(column + (last < 1 ? last : 1)) - first,
                 third = images.place(column + (last < 2 ? last : 2)) - first,
                 fourth = images.place(column + last) - first;
      for (Size k = 0; k < of.depth; k += of.part)
         conv_last_columns_tile<Groups>(
            {of.w + k * dense_tile_rows, of.x + first + k * of.pitch / bytes, sums, whole ? of.panel : 0, of.pitch,
             of.depth - k < of.part ? of.depth - k : of.part, second * bytes, third * bytes, fourth * bytes, k > 0});
      for (Size i = 0, next = 0; i < some; i = next) {
         const Size image = (column + i) / images.columns, at = (column + i) % images.columns;
         next = i + images.columns - at < some ? i + images.columns - at : some;
         const ConvLastTarget here = to.behind(image * images.to + at);
         if (to.stride == 1)
            conv_last_columns_row(here, sums + i * n, conv_last_columns * n, of.first, of.features);
         else
            conv_last_columns_results(here, sums + i * n, of.first, of.features, next - i);
      }
   }
}

/// y = max(w * x + bias + added, floor) for all columns of some images and all features.
SOFIE_KERNEL inline void conv_last_columns_product(const ConvLastTarget &to, const ConvLastProduct &all,
                                                   const ConvLastImages &images)
{
   constexpr Size n = lanes<float>, rows = dense_tile_rows, wide = conv_last_groups * n;
   const Size features = all.features, panels = ceil_div(features, rows) * rows;
   for (Size m = 0, next = 0; m < features; m = next) {
      const Size rest = features - m;
      // A tile of all groups that begins with features that are done takes as long as three of one.
      const bool again = rest > 3 * rows && rest <= wide - rows && m > 0, many = again || rest > wide - rows;
      const Size begin = again ? panels - wide : m;
      next = m + (again ? rest : many ? wide : n);
      ConvLastProduct of = all;
      of.features = (next < features ? next : features) - begin;
      of.first = m - begin;
      of.w += begin / rows * all.panel / static_cast<Size>(sizeof(float));
      ConvLastTarget here = to.behind(begin * to.stride);
      here.bias = to.bias ? to.bias + begin : nullptr;
      if (many)
         conv_last_columns_features<conv_last_groups>(here, of, images, true);
      else
         conv_last_columns_features<1>(here, of, images, rest > rows);
   }
}

} // namespace sofie

SOFIE_END

#endif

#endif
