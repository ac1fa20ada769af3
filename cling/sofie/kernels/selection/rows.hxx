/// \file
/// Where the largest or smallest numbers of rows of floats are, in assembler.
///
/// The first pass finds the number, the second one where it is: without branches that depend on the numbers
/// in rows of up to 64.
#ifndef SOFIE_KERNELS_SELECTION_ROWS_HXX
#define SOFIE_KERNELS_SELECTION_ROWS_HXX

#include "sofie/kernels/reduction/pieces.hxx"
#include "sofie/math.hxx"

#ifdef SOFIE_PIECES_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

// clang-format off
// Which numbers of a pack are the wanted one of zmm0. If that is NaN, those that are; else none is.
#define SOFIE_FIND_PACK(at, shift, zeroed, mask)                           \
   "vmovups " #at "(%[from]), %%zmm1" zeroed "\n\t"                        \
   "vcmpps $0, %%zmm0, %%zmm1, %%k6" mask "\n\t"                           \
   "vcmpps $3, %%zmm1, %%zmm1, %%k7\n\t"                                   \
   "korw %%k7, %%k6, %%k6\n\t"                                             \
   "kmovw %%k6, %k[more]\n\t"                                              \
   "shl $" #shift ", %[more]\n\t"                                          \
   "or %[more], %[found]\n\t"
#define SOFIE_FIND_QUAD                                                    \
   "xor %k[found], %k[found]\n\t"                                          \
   SOFIE_FIND_PACK(0, 0, "", "") SOFIE_FIND_PACK(64, 16, "", "")           \
   SOFIE_FIND_PACK(128, 32, "", "") SOFIE_FIND_PACK(192, 48, "", "")
#define SOFIE_FIND_REST                                                    \
   "xor %k[found], %k[found]\n\t"                                          \
   SOFIE_FIND_PACK(0, 0, "%{%%k1%}%{z%}", "%{%%k1%}")                      \
   "cmp $16, %[rest]\n\t"                                                  \
   "jle 5f\n\t"                                                            \
   SOFIE_FIND_PACK(64, 16, "%{%%k2%}%{z%}", "%{%%k2%}")                    \
   SOFIE_FIND_PACK(128, 32, "%{%%k3%}%{z%}", "%{%%k3%}")                   \
   SOFIE_FIND_PACK(192, 48, "%{%%k4%}%{z%}", "%{%%k4%}")                   \
   "5:\n\t"
#define SOFIE_FIND_FIRST                                                   \
   "mov %[x], %[from]\n\t"                                                 \
   "cmp %[end], %[from]\n\t"                                               \
   "je 3f\n"                                                               \
   "2:\n\t"                                                                \
   SOFIE_FIND_QUAD                                                         \
   "test %[found], %[found]\n\t"                                           \
   "jnz 4f\n\t"                                                            \
   "add $256, %[from]\n\t"                                                 \
   "cmp %[end], %[from]\n\t"                                               \
   "jne 2b\n"                                                              \
   "3:\n\t"                                                                \
   SOFIE_FIND_REST                                                         \
   "4:\n\t"                                                                \
   "bsf %[found], %[found]\n\t"
#define SOFIE_FIND_LAST                                                    \
   "mov %[end], %[from]\n\t"                                               \
   SOFIE_FIND_REST                                                         \
   "test %[found], %[found]\n\t"                                           \
   "jnz 4f\n"                                                              \
   "2:\n\t"                                                                \
   "sub $256, %[from]\n\t"                                                 \
   SOFIE_FIND_QUAD                                                         \
   "test %[found], %[found]\n\t"                                           \
   "jz 2b\n"                                                               \
   "4:\n\t"                                                                \
   "bsr %[found], %[found]\n\t"
#define SOFIE_FIND_ROWS(search)                                            \
   asm volatile(                                                           \
      "mov (%[masks]), %[found]\n\t"                                       \
      "kmovw %k[found], %%k1\n\t"                                          \
      "shr $16, %[found]\n\t"                                              \
      "kmovw %k[found], %%k2\n\t"                                          \
      "shr $16, %[found]\n\t"                                              \
      "kmovw %k[found], %%k3\n\t"                                          \
      "shr $16, %[found]\n\t"                                              \
      "kmovw %k[found], %%k4\n"                                            \
      "1:\n\t"                                                             \
      "vbroadcastss (%[wanted]), %%zmm0\n\t"                               \
      search                                                               \
      "sub %[x], %[from]\n\t"                                              \
      "shr $2, %[from]\n\t"                                                \
      "add %[from], %[found]\n\t"                                          \
      "mov %[found], (%[y])\n\t"                                           \
      "add $8, %[y]\n\t"                                                   \
      "add $4, %[wanted]\n\t"                                              \
      "add %[apart], %[x]\n\t"                                             \
      "add %[apart], %[end]\n\t"                                           \
      "dec %[rows]\n\t"                                                    \
      "jnz 1b\n\t"                                                         \
      : [x] "+&r"(x), [y] "+&r"(y), [rows] "+&r"(rows), [wanted] "+&r"(wanted), [end] "+&r"(end), [from] "=&r"(from),  \
        [found] "=&r"(found), [more] "=&r"(more)                                                                        \
      : [masks] "r"(&masks), [apart] "r"(count * 4), [rest] "r"(count % 64)                                             \
      : "memory", "cc", "k1", "k2", "k3", "k4", "k6", "k7", "xmm0", "xmm1")
// clang-format on

/// y[r] = where the first (or last) one of the `count` numbers of row r is that equals `wanted[r]`, or that is
/// NaN; there must be one.
template <bool Last>
SOFIE_KERNEL void find_in_rows(std::int64_t *y, const float *x, const float *wanted, Size rows, Size count)
{
   if (rows <= 0)
      return;
   const std::uint64_t masks = (std::uint64_t{1} << count % 64) - 1;
   const float *end = x + count / 64 * 64, *from;
   Size found, more;
   if constexpr (Last)
      SOFIE_FIND_ROWS(SOFIE_FIND_LAST);
   else
      SOFIE_FIND_ROWS(SOFIE_FIND_FIRST);
}

/// y[r] = where the best number of row r is.
template <bool Max, bool Last>
SOFIE_KERNEL void best_of_float_rows(std::int64_t *y, const float *x, Size rows, Size count)
{
   constexpr Size together = 64;
   alignas(64) float best[together];
   for (Size r = 0; r < rows; r += together, x += together * count) {
      const Size some = rows - r < together ? rows - r : together;
      reduce_rows<Max ? RowRule::largest : RowRule::least>(best, x, some, count);
      find_in_rows<Last>(y + r, x, best, some, count);
   }
}

} // namespace sofie

SOFIE_END

#endif

#endif
