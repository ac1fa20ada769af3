/// \file
/// Windows of two by two neighbours, each number in one of them, with AVX-512: two rows at a time, in assembler.
#ifndef SOFIE_KERNELS_POOLING_PAIRS_HXX
#define SOFIE_KERNELS_POOLING_PAIRS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/pooling.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_AVX512_ASSEMBLER
/// Rows of results, and their packs that are full; distances in bytes. The last pack reads and writes what masks say.
struct PoolPairs {
   const float *x;
   float *y;
   Size rows, packs, row, result_row;
   Size left, right, mask;
   const std::int32_t *order; // The numbers with an even place of two packs, then the others.
   float part;
};

// clang-format off
// NaN stays, as a number is no larger: where there is none yet, it is the larger one or the other, which may be NaN.
#define SOFIE_POOL_PAIRS_MAX(x, a)                                 \
   "vcmpps $7, %%zmm" #a ", %%zmm" #a ", %%k4\n\t"                 \
   "vmaxps %%zmm" #x ", %%zmm" #a ", %%zmm" #a "%{%%k4%}\n\t"
#define SOFIE_POOL_PAIRS_SUM(x, a) "vaddps %%zmm" #x ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_POOL_PAIRS_MEAN "vmulps %%zmm31, %%zmm0, %%zmm0\n\t"
#define SOFIE_POOL_PAIRS_PACK(rule, mean, left, right)             \
   "vmovups (%[x]), %%zmm0" left "\n\t"                            \
   "vmovups (%[x],%[row]), %%zmm1" left "\n\t"                     \
   "vmovups 64(%[x]), %%zmm2" right "\n\t"                         \
   "vmovups 64(%[x],%[row]), %%zmm3" right "\n\t"                  \
   rule(1, 0)                                                      \
   rule(3, 2)                                                      \
   "vmovaps %%zmm0, %%zmm1\n\t"                                    \
   "vpermt2ps %%zmm2, %%zmm29, %%zmm0\n\t"                         \
   "vpermt2ps %%zmm2, %%zmm30, %%zmm1\n\t"                         \
   rule(1, 0)                                                      \
   mean
#define SOFIE_POOL_PAIRS(rule, mean)                                                                     \
   asm volatile(                                                                                         \
      "mov %c[of_order](%[of]), %[k]\n\t"                                                                \
      "vmovups (%[k]), %%zmm29\n\t"                                                                      \
      "vmovups 64(%[k]), %%zmm30\n\t"                                                                    \
      "vbroadcastss %c[of_part](%[of]), %%zmm31\n\t"                                                     \
      "kmovw %c[of_left](%[of]), %%k1\n\t"                                                               \
      "kmovw %c[of_right](%[of]), %%k2\n\t"                                                              \
      "kmovw %c[of_mask](%[of]), %%k3\n\t"                                                               \
      "mov %c[of_row](%[of]), %[row]\n"                                                                  \
      "1:\n\t"                                                                                           \
      "mov %c[of_x](%[of]), %[x]\n\t"                                                                    \
      "mov %c[of_y](%[of]), %[y]\n\t"                                                                    \
      "mov %c[of_packs](%[of]), %[k]\n\t"                                                                \
      "test %[k], %[k]\n\t"                                                                              \
      "jle 3f\n"                                                                                         \
      "2:\n\t"                                                                                           \
      SOFIE_POOL_PAIRS_PACK(rule, mean, "", "")                                                          \
      "vmovups %%zmm0, (%[y])\n\t"                                                                       \
      "add $128, %[x]\n\t"                                                                               \
      "add $64, %[y]\n\t"                                                                                \
      "dec %[k]\n\t"                                                                                     \
      "jnz 2b\n"                                                                                         \
      "3:\n\t"                                                                                           \
      "cmpq $0, %c[of_mask](%[of])\n\t"                                                                  \
      "je 4f\n\t"                                                                                        \
      SOFIE_POOL_PAIRS_PACK(rule, mean, "%{%%k1%}%{z%}", "%{%%k2%}%{z%}")                                \
      "vmovups %%zmm0, (%[y])%{%%k3%}\n"                                                                 \
      "4:\n\t"                                                                                           \
      "lea (%[row],%[row]), %[k]\n\t"                                                                    \
      "add %[k], %c[of_x](%[of])\n\t"                                                                    \
      "mov %c[of_result_row](%[of]), %[k]\n\t"                                                           \
      "add %[k], %c[of_y](%[of])\n\t"                                                                    \
      "decq %c[of_rows](%[of])\n\t"                                                                      \
      "jnz 1b\n\t"                                                                                       \
      : [x] "=&r"(x), [y] "=&r"(y), [k] "=&r"(k), [row] "=&r"(row)                                       \
      : [of] "r"(&of),                                                                                   \
        SOFIE_MEMBERS(of, PoolPairs, x, y, rows, packs, row, result_row, left, right, mask, order, part) \
      : "memory", "cc", "k1", "k2", "k3", "k4", "xmm0", "xmm1", "xmm2", "xmm3", "xmm29", "xmm30", "xmm31")
// clang-format on

template <bool Largest>
SOFIE_KERNEL void pool_pairs_rows(PoolPairs &of)
{
   const float *x;
   float *y;
   Size k, row;
   if constexpr (Largest)
      SOFIE_POOL_PAIRS(SOFIE_POOL_PAIRS_MAX, "");
   else
      SOFIE_POOL_PAIRS(SOFIE_POOL_PAIRS_SUM, SOFIE_POOL_PAIRS_MEAN);
}

/// All planes as one where no row is left over below their windows.
template <bool Largest>
SOFIE_KERNEL void pool_planes_by_pairs(float *y, const float *x, Size planes, const PoolPlane &plane)
{
   constexpr Size n = 16, bytes = Size{sizeof(float)};
   const Size rows = plane.axis[0].count, count = plane.axis[1].count, width = plane.axis[1].size;
   if (plane.count <= 0)
      return;
   std::int32_t order[2 * n];
   for (std::int32_t i = 0; i < n; ++i) {
      order[i] = 2 * i;
      order[n + i] = 2 * i + 1;
   }
   const Size rest = count % n, left = rest < n / 2 ? 2 * rest : n, all = 2 * rows == plane.axis[0].size ? planes : 1;
   for (Size p = 0; p < planes; p += all, x += all * plane.size, y += all * plane.count) {
      PoolPairs of{x,
                   y,
                   all * rows,
                   count / n,
                   width * bytes,
                   count * bytes,
                   (Size{1} << left) - 1,
                   (Size{1} << (2 * rest - left)) - 1,
                   (Size{1} << rest) - 1,
                   order,
                   0.25f};
      pool_pairs_rows<Largest>(of);
   }
}
#endif

/// The same as `max_pool`, for such windows.
template <class Y, class Row, class Table, class X, int N>
SOFIE_INLINE void max_pool_pairs(Y y, [[maybe_unused]] Row row, [[maybe_unused]] Table table, X x,
                                 const Sizes<N> &numbers)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   pool_planes_by_pairs<true>(y.data(), x.data(), x.template extent<0>(), pool_plane(numbers));
#else
   max_pool(y, row, table, x, numbers);
#endif
}

/// The same as `average_pool`, for such windows.
template <class Y, class Row, class Members, class Table, class X, int N>
SOFIE_INLINE void average_pool_pairs(Y y, [[maybe_unused]] Row row, [[maybe_unused]] Members members,
                                     [[maybe_unused]] Table table, X x, const Sizes<N> &numbers)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   pool_planes_by_pairs<false>(y.data(), x.data(), x.template extent<0>(), pool_plane(numbers));
#else
   average_pool<false>(y, row, members, table, x, numbers);
#endif
}

} // namespace sofie

SOFIE_END

#endif
