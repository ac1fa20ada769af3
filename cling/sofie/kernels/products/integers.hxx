/// \file
/// Products of integers of 8 bits with constant weights, two steps at a time.
///
/// Less their zero points both factors are numbers of 16 bits. A register multiplies pairs of them and adds the two
/// products up in 32 bits, which is exact; what is summed wraps around.
#ifndef SOFIE_KERNELS_PRODUCTS_INTEGERS_HXX
#define SOFIE_KERNELS_PRODUCTS_INTEGERS_HXX

#include "sofie/kernels/dense/tile.hxx"
#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// The rows and columns of a tile.
inline constexpr Size integer_rows = 4, integer_columns = 2 * lanes<std::int32_t>;

/// B[k, n] less its zero points, of which there are none, one, or one for each column: for each tile of columns, and
/// for each two steps, a pair for each column.
class IntegerWeights {
   Buffer<std::int32_t> panels_;

   template <class B>
   void pack(const B *b, const B *zeros, Size per_column, Size k, Size n)
   {
      const Size pairs = (k + 1) / 2, tiles = (n + integer_columns - 1) / integer_columns;
      panels_ = Buffer<std::int32_t>(tiles * pairs * integer_columns);
      for (Size column = 0; column < n; ++column) {
         const int zero = zeros ? zeros[column * per_column] : 0;
         std::int32_t *to = panels_.data() + column / integer_columns * pairs * integer_columns;
         to += column % integer_columns;
         for (Size i = 0; i < k; i += 2, to += integer_columns) {
            const int first = b[i * n + column] - zero, second = i + 1 < k ? b[(i + 1) * n + column] - zero : 0;
            *to = static_cast<std::int32_t>((static_cast<std::uint32_t>(second) << 16) |
                                            (static_cast<std::uint32_t>(first) & 0xffff));
         }
      }
   }

public:
   template <class B>
   explicit IntegerWeights(B b)
   {
      pack(b.data(), static_cast<decltype(b.data())>(nullptr), 0, b.template extent<0>(), b.template extent<1>());
   }
   template <class B, class Zero>
   IntegerWeights(B b, Zero zero)
   {
      pack(b.data(), zero.data(), zero.size() == 1 ? 0 : 1, b.template extent<0>(), b.template extent<1>());
   }
   SOFIE_INLINE const std::int32_t *panels() const { return panels_.data(); }
};

/// How many pairs a row has, which are written in whole packs.
SOFIE_INLINE Size integer_row(Size k)
{
   return (k + integer_columns - 1) / integer_columns * integer_columns / 2;
}

/// Pairs of a row less their zero point, in whole packs; an odd last one has a partner that meets a weight of 0.
template <class A>
SOFIE_KERNEL void integer_pairs(std::int32_t *to, const A *a, Size k, A zero)
{
   constexpr int n = 2 * lanes<std::int32_t>;
   using Pairs = PackN<std::int16_t, n>;
   const Pairs less = splat<Pairs>(static_cast<std::int16_t>(zero));
   for (Size i = 0; i < k; i += n, to += n / 2) {
      const Pairs pairs = __builtin_convertvector(load_some<n>(a + i, k - i < n ? k - i : n), Pairs) - less;
      __builtin_memcpy(to, &pairs, sizeof(pairs));
   }
}

/// A tile: rows of pairs that are `row` bytes apart, weights, and where the sums of each row come.
struct IntegerTile {
   const std::int32_t *a, *w;
   Size row, pairs;
   std::int32_t *sums;
};

#ifdef SOFIE_TILE_ASSEMBLER
// clang-format off
#define SOFIE_INTEGER_ZERO(a) SOFIE_PACK_ZERO " " SOFIE_PACK(a) ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_INTEGER_ADD(place, first, second)                                       \
   "vpbroadcastd " place ", " SOFIE_PACK(10) "\n\t"                                    \
   "vpmaddwd " SOFIE_PACK(8) ", " SOFIE_PACK(10) ", " SOFIE_PACK(11) "\n\t"            \
   "vpmaddwd " SOFIE_PACK(9) ", " SOFIE_PACK(10) ", " SOFIE_PACK(12) "\n\t"            \
   "vpaddd " SOFIE_PACK(11) ", " SOFIE_PACK(first) ", " SOFIE_PACK(first) "\n\t"       \
   "vpaddd " SOFIE_PACK(12) ", " SOFIE_PACK(second) ", " SOFIE_PACK(second) "\n\t"
#define SOFIE_INTEGER_PUT(a) "vmovups " SOFIE_PACK(a) ", " SOFIE_PACK_BYTES "*" #a "(%[sums])\n\t"
#define SOFIE_INTEGER_TILE(zeros, adds, puts)                                          \
   asm volatile(                                                                       \
      zeros                                                                            \
      "1:\n\t"                                                                         \
      "vmovups (%[w]), " SOFIE_PACK(8) "\n\t"                                          \
      "vmovups " SOFIE_PACK_BYTES "(%[w]), " SOFIE_PACK(9) "\n\t"                      \
      adds                                                                             \
      "add $4, %[a]\n\t"                                                               \
      "add $2*" SOFIE_PACK_BYTES ", %[w]\n\t"                                          \
      "dec %[pairs]\n\t"                                                               \
      "jnz 1b\n\t"                                                                     \
      puts                                                                             \
      : [a] "+&r"(a), [w] "+&r"(w), [pairs] "+&r"(pairs)                               \
      : [sums] "r"(of.sums), [row] "r"(of.row), [row3] "r"(3 * of.row)                 \
      : "memory", "cc", SOFIE_DENSE_REGISTERS)
// clang-format on

/// sums[r][j] = the sum of products of pairs, of one row or of four; there is a pair at least.
template <int Rows>
SOFIE_KERNEL void integer_tile(const IntegerTile &of)
{
   const std::int32_t *a = of.a, *w = of.w;
   Size pairs = of.pairs;
   // clang-format off
   if constexpr (Rows == 1)
      SOFIE_INTEGER_TILE(SOFIE_INTEGER_ZERO(0) SOFIE_INTEGER_ZERO(1), SOFIE_INTEGER_ADD("(%[a])", 0, 1),
         SOFIE_INTEGER_PUT(0) SOFIE_INTEGER_PUT(1));
   else
      SOFIE_INTEGER_TILE(
         SOFIE_INTEGER_ZERO(0) SOFIE_INTEGER_ZERO(1) SOFIE_INTEGER_ZERO(2) SOFIE_INTEGER_ZERO(3)
         SOFIE_INTEGER_ZERO(4) SOFIE_INTEGER_ZERO(5) SOFIE_INTEGER_ZERO(6) SOFIE_INTEGER_ZERO(7),
         SOFIE_INTEGER_ADD("(%[a])", 0, 1) SOFIE_INTEGER_ADD("(%[a],%[row])", 2, 3)
         SOFIE_INTEGER_ADD("(%[a],%[row],2)", 4, 5) SOFIE_INTEGER_ADD("(%[a],%[row3])", 6, 7),
         SOFIE_INTEGER_PUT(0) SOFIE_INTEGER_PUT(1) SOFIE_INTEGER_PUT(2) SOFIE_INTEGER_PUT(3)
         SOFIE_INTEGER_PUT(4) SOFIE_INTEGER_PUT(5) SOFIE_INTEGER_PUT(6) SOFIE_INTEGER_PUT(7));
   // clang-format on
}
#else
template <int Rows>
SOFIE_KERNEL void integer_tile(const IntegerTile &of)
{
   constexpr int n = lanes<std::int32_t>;
   using V = Pack<std::int32_t>;
   for (Size r = 0; r < Rows; ++r)
      for (Size c = 0; c < integer_columns; c += n) {
         const std::int32_t *const a = of.a + r * of.row / static_cast<Size>(sizeof(std::int32_t));
         V sum{};
         for (Size i = 0; i < of.pairs; ++i) {
            const V pair = load<n>(of.w + i * integer_columns + c);
            const V first = splat<V>(static_cast<std::int16_t>(a[i])), second = splat<V>(a[i] >> 16);
            const V low = pair << 16 >> 16, high = pair >> 16;
            sum = plus(sum, plus(times(first, low), times(second, high)));
         }
         store(of.sums + r * integer_columns + c, sum);
      }
}
#endif

/// Some rows of results, of one row or up to four, whose pairs are in `pairs`.
template <int Rows>
SOFIE_KERNEL void integer_results(std::int32_t *y, const std::int32_t *pairs, const std::int32_t *panels, Size rows,
                                  Size k, Size n)
{
   constexpr Size columns = integer_columns, bytes = static_cast<Size>(sizeof(std::int32_t));
   const Size steps = (k + 1) / 2, row = integer_row(k);
   std::int32_t sums[Rows * columns];
   for (Size column = 0; column < n; column += columns, panels += steps * columns) {
      const Size some = n - column < columns ? n - column : columns;
      integer_tile<Rows>({pairs, panels, row * bytes, steps, sums});
      for (Size r = 0; r < rows; ++r)
         __builtin_memcpy(y + r * n + column, sums + r * columns, static_cast<std::size_t>(some * bytes));
   }
}

/// y[m, n] = sum_k (a[m, k] - zero) * (b[k, n] - its zero point); `scratch` has the pairs of four rows.
template <class A>
SOFIE_KERNEL void integer_product(std::int32_t *y, std::int32_t *scratch, const A *a, A zero,
                                  const std::int32_t *panels, Size m, Size k, Size n)
{
   const Size row = integer_row(k);
   if (k <= 0 && m > 0 && n > 0)
      __builtin_memset(y, 0, static_cast<std::size_t>(m * n) * sizeof(*y));
   for (Size first = 0; first < m && k > 0; first += integer_rows, y += integer_rows * n) {
      const Size rows = m - first < integer_rows ? m - first : integer_rows;
      // What is no row is the last one again.
      for (Size r = 0; r < (rows > 1 ? integer_rows : 1); ++r)
         integer_pairs(scratch + r * row, a + (first + (r < rows ? r : rows - 1)) * k, k, zero);
      if (rows > 1)
         integer_results<integer_rows>(y, scratch, panels, rows, k, n);
      else
         integer_results<1>(y, scratch, panels, rows, k, n);
   }
}

/// The same of views; `zero` is one number, or is not there.
template <class Y, class Scratch, class A>
SOFIE_INLINE void integer_product(Y y, Scratch scratch, A a, const IntegerWeights &w, const Sizes<3> &sizes)
{
   using T = std::remove_const_t<typename A::Element>;
   integer_product(y.data(), scratch.data(), static_cast<const T *>(a.data()), T{}, w.panels(), sizes[0], sizes[1],
                   sizes[2]);
}
template <class Y, class Scratch, class A, class Zero>
SOFIE_INLINE void integer_product(Y y, Scratch scratch, A a, const IntegerWeights &w, const Sizes<3> &sizes, Zero zero)
{
   using T = std::remove_const_t<typename A::Element>;
   integer_product(y.data(), scratch.data(), static_cast<const T *>(a.data()), static_cast<T>(zero.data()[0]),
                   w.panels(), sizes[0], sizes[1], sizes[2]);
}

} // namespace sofie

SOFIE_END

#endif
