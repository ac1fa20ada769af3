/// \file
/// Windows of two by two neighbours, each number in one of them: two rows at a time, in assembler.
#ifndef SOFIE_KERNELS_POOLING_PAIRS_HXX
#define SOFIE_KERNELS_POOLING_PAIRS_HXX

#include "sofie/kernels/pooling.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER
/// Rows of results, and their packs, of which the last one may end in the next row; distances in bytes.
struct PoolPairs {
   const float *x;
   float *y;
   Size rows, packs, row, result_row;
   float part;
};

// clang-format off
// Even and odd numbers of two packs have the same order: pairs of them that change places within 16 bytes.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_POOL_PAIRS_ORDER "vpermpd %%zmm0, %%zmm5, %%zmm0\n\t"
#else
#define SOFIE_POOL_PAIRS_ORDER "vpermpd $0xd8, %%ymm0, %%ymm0\n\t"
#endif
#define SOFIE_POOL_PAIRS_LOAD(place, a) "vmovups " place ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_POOL_PAIRS_EACH(which, a) "vshufps $" which ", " SOFIE_PACK(2) ", " SOFIE_PACK(0) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_POOL_PAIRS(rule, mean)                                                           \
   asm volatile(                                                                               \
      "vmovups (%[k]), " SOFIE_PACK(5) "\n\t"                                                  \
      "vbroadcastss %c[of_part](%[of]), " SOFIE_PACK(4) "\n"                                   \
      "1:\n\t"                                                                                 \
      "mov %c[of_x](%[of]), %[x]\n\t"                                                          \
      "mov %c[of_y](%[of]), %[y]\n\t"                                                          \
      "mov %c[of_packs](%[of]), %[k]\n"                                                        \
      "2:\n\t"                                                                                 \
      SOFIE_POOL_PAIRS_LOAD("(%[x])", 0)                                                       \
      SOFIE_POOL_PAIRS_LOAD("(%[x],%[row])", 1)                                                \
      SOFIE_POOL_PAIRS_LOAD(SOFIE_PACK_BYTES "(%[x])", 2)                                      \
      SOFIE_POOL_PAIRS_LOAD(SOFIE_PACK_BYTES "(%[x],%[row])", 3)                               \
      rule(1, 0)                                                                               \
      rule(3, 2)                                                                               \
      SOFIE_POOL_PAIRS_EACH("0xdd", 1)                                                         \
      SOFIE_POOL_PAIRS_EACH("0x88", 0)                                                         \
      rule(1, 0)                                                                               \
      mean                                                                                     \
      SOFIE_POOL_PAIRS_ORDER                                                                   \
      "vmovups " SOFIE_PACK(0) ", (%[y])\n\t"                                                  \
      "add $2*" SOFIE_PACK_BYTES ", %[x]\n\t"                                                  \
      "add $" SOFIE_PACK_BYTES ", %[y]\n\t"                                                    \
      "dec %[k]\n\t"                                                                           \
      "jnz 2b\n\t"                                                                             \
      "lea (%[row],%[row]), %[k]\n\t"                                                          \
      "add %[k], %c[of_x](%[of])\n\t"                                                          \
      "mov %c[of_result_row](%[of]), %[k]\n\t"                                                 \
      "add %[k], %c[of_y](%[of])\n\t"                                                          \
      "decq %c[of_rows](%[of])\n\t"                                                            \
      "jnz 1b\n\t"                                                                             \
      : [x] "=&r"(x), [y] "=&r"(y), [k] "+&r"(k)                                               \
      : [of] "r"(&of), [row] "r"(of.row), SOFIE_MEMBERS(of, PoolPairs, x, y, rows, packs, result_row, part) \
      : "memory", "cc", SOFIE_POOL_REGISTERS)
// clang-format on

/// There is a row at least.
template <bool Largest>
SOFIE_KERNEL void pool_pairs_rows(PoolPairs of)
{
   static const Size order[] = {0, 2, 4, 6, 1, 3, 5, 7};
   const float *x;
   float *y;
   const Size *k = order;
   if constexpr (Largest)
      SOFIE_POOL_PAIRS(SOFIE_POOL_MAX_OF, "");
   else
      SOFIE_POOL_PAIRS(SOFIE_POOL_SUM_OF, "vmulps " SOFIE_PACK(4) ", " SOFIE_PACK(0) ", " SOFIE_PACK(0) "\n\t");
}

/// Rows of results `row`, `row` + 1, ... of some planes.
template <class Rule>
SOFIE_KERNEL void pool_planes_by_pairs(float *y, const float *x, Size planes, const PoolPlane &plane)
{
   constexpr Size n = lanes<float>, bytes = Size{sizeof(float)};
   const Size high = plane.axis[0].count, count = plane.axis[1].count, width = plane.axis[1].size;
   if (plane.count <= 0)
      return;
   const Size packs = (count + n - 1) / n, all = planes * high, over = packs * n - count;
   // Planes of which no row is left over below their windows are one.
   const Size together = 2 * high == plane.axis[0].size ? all : high;
   // Of the last rows packs would end behind all.
   const Size last = (over + count - 1) / count, whole = all > last ? all - last : 0;
   for (Size row = 0; row < whole; row += together) {
      const Size some = whole - row < together ? whole - row : together;
      pool_pairs_rows<std::is_same_v<Rule, PoolMax>>(
         {x + row / high * plane.size, y + row * count, some, packs, width * bytes, count * bytes, 0.25f});
   }
   using V = PackN<float, 4>;
   for (Size row = whole; row < all; ++row)
      for (Size j = 0; j < count; ++j) {
         const float *const from = x + row / high * plane.size + row % high * 2 * width + 2 * j;
         V some = Rule::combined(V{from[0], from[1]}, V{from[width], from[width + 1]});
         some = Rule::combined(some, V{some[1]});
         y[row * count + j] = std::is_same_v<Rule, PoolMax> ? some[0] : some[0] * 0.25f;
      }
}
#endif

/// The same as `max_pool`, for such windows.
template <class Y, class Row, class Table, class X, int N>
SOFIE_INLINE void max_pool_pairs(Y y, [[maybe_unused]] Row row, [[maybe_unused]] Table table, X x,
                                 const Sizes<N> &numbers)
{
#ifdef SOFIE_TILE_ASSEMBLER
   pool_planes_by_pairs<PoolMax>(y.data(), x.data(), x.template extent<0>(), pool_plane(numbers));
#else
   max_pool(y, row, table, x, numbers);
#endif
}

/// The same as `average_pool`, for such windows.
template <class Y, class Row, class Members, class Table, class X, int N>
SOFIE_INLINE void average_pool_pairs(Y y, [[maybe_unused]] Row row, [[maybe_unused]] Members members,
                                     [[maybe_unused]] Table table, X x, const Sizes<N> &numbers)
{
#ifdef SOFIE_TILE_ASSEMBLER
   pool_planes_by_pairs<PoolSum>(y.data(), x.data(), x.template extent<0>(), pool_plane(numbers));
#else
   average_pool<false>(y, row, members, table, x, numbers);
#endif
}

} // namespace sofie

SOFIE_END

#endif
