/// \file
/// Reductions of short pieces of rows that lie apart, in assembler: of columns side by side that are fewer than there
/// are in `reduction/columns.hxx`, and of rows that are not whole in memory.
#ifndef SOFIE_KERNELS_REDUCTION_STRIDED_HXX
#define SOFIE_KERNELS_REDUCTION_STRIDED_HXX

#include "sofie/kernels/reduction/rows.hxx"

#ifdef SOFIE_COLUMNS_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// `lines` results (or rows of them) from pieces of up to 16 floats, all numbers in floats: pieces of one line are
/// `step` apart, lines `line`, their results `out`.
struct StridedPieces {
   Size lines, line, out;
   Size pieces, step;
   Size width;
};

/// More pieces are summed up pairwise; and fewer columns lie in the lanes together with other rows.
inline constexpr Size strided_pieces = 512, few_columns = 4;

// clang-format off
#define SOFIE_STRIDED_PIECE(rule, at, x, a) "vmovups " at ", %%zmm" #x "%{%%k1%}\n\t" rule(x, a)
#define SOFIE_STRIDED_COLUMNS(join) "vmovups %%zmm0, (%[y])%{%%k1%}\n\t"
// The registers that pieces are read to keep the neutral number where these have none.
#define SOFIE_REDUCE_STRIDED(rule, join, end)                              \
   asm volatile(                                                           \
      "kmovw %k[k], %%k1\n\t"                                              \
      "vbroadcastss (%[neutral]), %%zmm31\n\t"                             \
      "vmovaps %%zmm31, %%zmm4\n\t"                                        \
      "vmovaps %%zmm31, %%zmm5\n\t"                                        \
      "vmovaps %%zmm31, %%zmm6\n\t"                                        \
      "vmovaps %%zmm31, %%zmm7\n"                                          \
      "1:\n\t"                                                             \
      "vmovaps %%zmm31, %%zmm0\n\t"                                        \
      "vmovaps %%zmm31, %%zmm1\n\t"                                        \
      "vmovaps %%zmm31, %%zmm2\n\t"                                        \
      "vmovaps %%zmm31, %%zmm3\n\t"                                        \
      "mov %[x], %[from]\n\t"                                              \
      "mov %[quads], %[k]\n\t"                                             \
      "test %[k], %[k]\n\t"                                                \
      "jz 3f\n"                                                            \
      "2:\n\t"                                                             \
      SOFIE_STRIDED_PIECE(rule, "(%[from])", 4, 0)                         \
      SOFIE_STRIDED_PIECE(rule, "(%[from],%[step])", 5, 1)                 \
      SOFIE_STRIDED_PIECE(rule, "(%[from],%[step],2)", 6, 2)               \
      SOFIE_STRIDED_PIECE(rule, "(%[from],%[three])", 7, 3)                \
      "lea (%[from],%[step],4), %[from]\n\t"                               \
      "dec %[k]\n\t"                                                       \
      "jnz 2b\n"                                                           \
      "3:\n\t"                                                             \
      "mov %[rest], %[k]\n\t"                                              \
      "test %[k], %[k]\n\t"                                                \
      "jz 5f\n"                                                            \
      "4:\n\t"                                                             \
      SOFIE_STRIDED_PIECE(rule, "(%[from])", 4, 0)                         \
      "add %[step], %[from]\n\t"                                           \
      "dec %[k]\n\t"                                                       \
      "jnz 4b\n"                                                           \
      "5:\n\t"                                                             \
      join(1, 0)                                                           \
      join(3, 2)                                                           \
      join(2, 0)                                                           \
      end(join)                                                            \
      "add %[line], %[x]\n\t"                                              \
      "add %[out], %[y]\n\t"                                               \
      "dec %[lines]\n\t"                                                   \
      "jnz 1b\n\t"                                                         \
      : [x] "+&r"(x), [y] "+&r"(y), [lines] "+&r"(lines), [k] "+&r"(k), [from] "=&r"(from)                              \
      : [step] "r"(of.step * 4), [three] "r"(of.step * 12), [quads] "r"(of.pieces / 4), [rest] "r"(of.pieces % 4),      \
        [line] "r"(of.line * 4), [out] "r"(of.out * 4), [neutral] "r"(&neutral)                                         \
      : "memory", "cc", "k1", "k2", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm31")
// clang-format on

/// y[l * out] = all numbers of the pieces of line l as one; not `Folded`: `width` results, column by column.
template <RowRule Rule, bool Folded>
SOFIE_KERNEL void reduce_pieces(float *y, const float *x, const StridedPieces &of, float neutral)
{
   if (of.lines <= 0)
      return;
   Size lines = of.lines, k = (Size{1} << of.width) - 1;
   const float *from;
#define SOFIE_REDUCE_PIECES(rule, join)                     \
   if constexpr (Folded)                                    \
      SOFIE_REDUCE_STRIDED(rule, join, SOFIE_REDUCE_LANES); \
   else                                                     \
      SOFIE_REDUCE_STRIDED(rule, join, SOFIE_STRIDED_COLUMNS)
   if constexpr (Rule == RowRule::sum) {
      SOFIE_REDUCE_PIECES(SOFIE_REDUCE_SUM, SOFIE_REDUCE_SUM);
   } else if constexpr (Rule == RowRule::magnitudes) {
      SOFIE_REDUCE_PIECES(SOFIE_REDUCE_MAGNITUDES, SOFIE_REDUCE_SUM);
   } else if constexpr (Rule == RowRule::squares) {
      SOFIE_REDUCE_PIECES(SOFIE_REDUCE_SQUARES, SOFIE_REDUCE_SUM);
   } else if constexpr (Rule == RowRule::product) {
      SOFIE_REDUCE_PIECES(SOFIE_REDUCE_PRODUCT, SOFIE_REDUCE_PRODUCT);
   } else if constexpr (Rule == RowRule::largest) {
      SOFIE_REDUCE_PIECES(SOFIE_REDUCE_LARGEST, SOFIE_REDUCE_LARGEST);
   } else {
      SOFIE_REDUCE_PIECES(SOFIE_REDUCE_LEAST, SOFIE_REDUCE_LEAST);
   }
#undef SOFIE_REDUCE_PIECES
}

/// to[l * out] and what follows = the pieces of line l, one after the other. The memory has a pack more.
SOFIE_KERNEL inline void join_pieces(float *to, const float *x, const StridedPieces &of)
{
   constexpr int n = lanes<float>;
   for (Size l = 0; l < of.lines; ++l) {
      const float *from = x + l * of.line;
      float *at = to + l * of.out;
      for (Size i = 0; i < of.pieces; ++i, from += of.step, at += of.width)
         store(at, load_some<n>(from, of.width));
   }
}

/// y[l, j] = all x[l, :, j] as one.
template <RowRule Rule>
SOFIE_INLINE void reduce_few_columns(float *y, const float *x, Size lines, Size run, Size inner, float neutral)
{
   constexpr Size n = lanes<float>;
   for (Size j = 0; j < inner; j += n) {
      const Size width = inner - j < n ? inner - j : n;
      reduce_pieces<Rule, false>(y + j, x + j, {lines, run * inner, inner, run, inner, width}, neutral);
   }
}

} // namespace sofie

SOFIE_END

#endif

#endif
