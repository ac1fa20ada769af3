/// \file
/// Reductions of floats in assembler: of rows, of columns side by side, and of rows in pieces that lie apart.
///
/// All of them read pieces of up to 16 floats that are equally far apart. Cling's code writes to memory what it has in
/// registers at the end of each short block, of which a short row has many.
#ifndef SOFIE_KERNELS_REDUCTION_PIECES_HXX
#define SOFIE_KERNELS_REDUCTION_PIECES_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/reduction/rules.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_PIECES_ASSEMBLER

/// `lines` results (or rows of them) from pieces of `width` <= 16 floats; `rest` < 16 more are where a further piece
/// would begin. Distances are in floats: pieces of one line are `step` apart, and `next` from the first of four to that
/// of the next four; lines `line`, their results `out`.
struct ReducedPieces {
   Size lines, line, out;
   Size pieces, step, next;
   Size width, rest;
};

/// What pieces are: those of whole rows, or of rows that are in pieces, which become one number each; or rows of
/// columns, a register of them, or four times that side by side.
enum class PieceKind { row, part, columns, wide };

/// A line with more pieces is halved.
inline constexpr Size most_pieces = 512;

// clang-format off
#define SOFIE_REDUCE_SUM(x, a) "vaddps %%zmm" #x ", %%zmm" #a ", %%zmm" #a "\n\t"
// Without the sign bit.
#define SOFIE_REDUCE_MAGNITUDES(x, a) \
   "vpslld $1, %%zmm" #x ", %%zmm" #x "\n\tvpsrld $1, %%zmm" #x ", %%zmm" #x "\n\t" SOFIE_REDUCE_SUM(x, a)
#define SOFIE_REDUCE_SQUARES(x, a) "vfmadd231ps %%zmm" #x ", %%zmm" #x ", %%zmm" #a "\n\t"
#define SOFIE_REDUCE_PRODUCT(x, a) "vmulps %%zmm" #x ", %%zmm" #a ", %%zmm" #a "\n\t"
// NaN stays: where there is none yet, it is the larger one or the second, which may be NaN.
#define SOFIE_REDUCE_ORDERED(instruction, x, a) \
   "vcmpps $7, %%zmm" #a ", %%zmm" #a ", %%k2\n\t" instruction " %%zmm" #x ", %%zmm" #a ", %%zmm" #a "%{%%k2%}\n\t"
#define SOFIE_REDUCE_LARGEST(x, a) SOFIE_REDUCE_ORDERED("vmaxps", x, a)
#define SOFIE_REDUCE_LEAST(x, a) SOFIE_REDUCE_ORDERED("vminps", x, a)
#define SOFIE_REDUCE_PIECE(rule, mask, at, x, a) "vmovups " at ", %%zmm" #x mask "\n\t" rule(x, a)
#define SOFIE_REDUCE_APART(x, a)
// All lanes of zmm0 as one number, each of them, or those of four registers.
#define SOFIE_REDUCE_LANES(join)                                           \
   "vextractf64x4 $1, %%zmm0, %%ymm1\n\t" join(1, 0)                       \
   "vextractf128 $1, %%ymm0, %%xmm1\n\t" join(1, 0)                        \
   "vpermilps $0x0e, %%xmm0, %%xmm1\n\t" join(1, 0)                        \
   "vpermilps $0x01, %%xmm0, %%xmm1\n\t" join(1, 0)                        \
   "vmovss %%xmm0, (%[y])\n\t"
#define SOFIE_REDUCE_COLUMNS(join) "vmovups %%zmm0, (%[y])%{%%k1%}\n\t"
#define SOFIE_REDUCE_WIDE(join)                                            \
   "vmovups %%zmm0, (%[y])\n\tvmovups %%zmm1, 64(%[y])\n\t"                \
   "vmovups %%zmm2, 128(%[y])\n\tvmovups %%zmm3, 192(%[y])\n\t"
// The registers that pieces are read to keep the neutral number where these have none.
#define SOFIE_REDUCE_LINES(rule, piece, join, end)                         \
   asm volatile(                                                           \
      "kmovw %k[k], %%k1\n\t"                                              \
      "kmovw %[mask], %%k3\n\t"                                            \
      "vbroadcastss %[neutral], %%zmm31\n\t"                               \
      "vmovaps %%zmm31, %%zmm4\n\t"                                        \
      "vmovaps %%zmm31, %%zmm5\n\t"                                        \
      "vmovaps %%zmm31, %%zmm6\n\t"                                        \
      "vmovaps %%zmm31, %%zmm7\n"                                          \
      "1:\n\t"                                                             \
      "vmovaps %%zmm31, %%zmm0\n\t"                                        \
      "vmovaps %%zmm31, %%zmm1\n\t"                                        \
      "vmovaps %%zmm31, %%zmm2\n\t"                                        \
      "vmovaps %%zmm31, %%zmm3\n\t"                                        \
      "vmovaps %%zmm31, %%zmm8\n\t"                                        \
      "mov %[x], %[from]\n\t"                                              \
      "mov %[quads], %[k]\n\t"                                             \
      "test %[k], %[k]\n\t"                                                \
      "jz 3f\n"                                                            \
      "2:\n\t"                                                             \
      SOFIE_REDUCE_PIECE(rule, piece, "(%[from])", 4, 0)                   \
      SOFIE_REDUCE_PIECE(rule, piece, "(%[from],%[step])", 5, 1)           \
      SOFIE_REDUCE_PIECE(rule, piece, "(%[from],%[step],2)", 6, 2)         \
      SOFIE_REDUCE_PIECE(rule, piece, "(%[from],%[three])", 7, 3)          \
      "add %[next], %[from]\n\t"                                           \
      "dec %[k]\n\t"                                                       \
      "jnz 2b\n\t"                                                         \
      join(2, 0)                                                           \
      join(3, 1)                                                           \
      "3:\n\t"                                                             \
      "mov %[others], %[k]\n\t"                                            \
      "test %[k], %[k]\n\t"                                                \
      "jz 5f\n"                                                            \
      "4:\n\t"                                                             \
      SOFIE_REDUCE_PIECE(rule, piece, "(%[from])", 4, 0)                   \
      "add %[step], %[from]\n\t"                                           \
      "dec %[k]\n\t"                                                       \
      "jnz 4b\n"                                                           \
      "5:\n\t"                                                             \
      "vmovups (%[from]), %%zmm8%{%%k3%}\n\t"                              \
      rule(8, 1)                                                           \
      join(1, 0)                                                           \
      end(join)                                                            \
      "add %[line], %[x]\n\t"                                              \
      "add %[out], %[y]\n\t"                                               \
      "dec %[lines]\n\t"                                                   \
      "jnz 1b\n\t"                                                         \
      : [x] "+&r"(x), [y] "+&r"(y), [lines] "+&r"(lines), [k] "+&r"(k), [from] "=&r"(from)                              \
      : [step] "r"(of.step * 4), [three] "r"(of.step * 12), [next] "r"(of.next * 4), [quads] "r"(of.pieces / 4),        \
        [others] "r"(of.pieces % 4), [line] "r"(of.line * 4), [out] "r"(of.out * 4), [mask] "m"(mask), [neutral] "m"(neutral) \
      : "memory", "cc", "k1", "k2", "k3", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm31")
#define SOFIE_REDUCE_PIECES(rule, join)                                                        \
   if constexpr (Kind == PieceKind::row)                                                       \
      SOFIE_REDUCE_LINES(rule, "", join, SOFIE_REDUCE_LANES);                                  \
   else if constexpr (Kind == PieceKind::part)                                                 \
      SOFIE_REDUCE_LINES(rule, "%{%%k1%}", join, SOFIE_REDUCE_LANES);                          \
   else if constexpr (Kind == PieceKind::columns)                                              \
      SOFIE_REDUCE_LINES(rule, "%{%%k1%}", join, SOFIE_REDUCE_COLUMNS);                        \
   else                                                                                        \
      SOFIE_REDUCE_LINES(rule, "", SOFIE_REDUCE_APART, SOFIE_REDUCE_WIDE)
// clang-format on

/// How two results of such a rule become one.
template <RowRule Rule>
using CombinationOf = std::conditional_t<
   Rule == RowRule::largest, Largest,
   std::conditional_t<Rule == RowRule::least, Least, std::conditional_t<Rule == RowRule::product, Product, Total>>>;

/// y[l * out] = all numbers of the pieces of line l as one, or column by column.
template <RowRule Rule, PieceKind Kind>
SOFIE_KERNEL void reduce_pieces(float *y, const float *x, const ReducedPieces &of)
{
   if (of.lines <= 0)
      return;
   const float neutral = CombinationOf<Rule>::template identity<float>(), *from;
   const unsigned short mask = static_cast<unsigned short>((Size{1} << of.rest) - 1);
   Size lines = of.lines, k = (Size{1} << of.width) - 1;
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
}

/// The lanes of one line, of any number of pieces: those of both halves as one where there are many.
template <RowRule Rule>
SOFIE_KERNEL void line_of_pieces(float *found, const float *x, ReducedPieces of)
{
   using C = CombinationOf<Rule>;
   constexpr int n = lanes<float>;
   of.lines = 1;
   store(found, splat<Pack<float>>(C::template identity<float>()));
   if (of.pieces <= most_pieces)
      return reduce_pieces<Rule, PieceKind::columns>(found, x, of);
   alignas(64) float behind[n];
   ReducedPieces first = of;
   first.pieces = of.pieces / 2;
   first.rest = 0;
   of.pieces -= first.pieces;
   line_of_pieces<Rule>(found, x, first);
   line_of_pieces<Rule>(behind, x + first.pieces * of.step, of);
   store(found, C::combined(load<n>(found), load<n>(behind)));
}

/// The pieces of rows of `count` floats, which follow each other.
SOFIE_INLINE ReducedPieces pieces_of_rows(Size rows, Size count)
{
   constexpr Size n = lanes<float>;
   return {rows, count, 1, count / n, n, 4 * n, n, count % n};
}

/// y[l * out] = all numbers of line l as one.
template <RowRule Rule, PieceKind Kind>
SOFIE_KERNEL void reduce_folded(float *y, const float *x, const ReducedPieces &of)
{
   if (of.pieces <= most_pieces)
      return reduce_pieces<Rule, Kind>(y, x, of);
   alignas(64) float found[lanes<float>];
   for (Size l = 0; l < of.lines; ++l) {
      line_of_pieces<Rule>(found, x + l * of.line, of);
      y[l * of.out] = fold_lanes<CombinationOf<Rule>>(load<lanes<float>>(found));
   }
}

/// y[r] = all `count` numbers of row r as one.
template <RowRule Rule>
SOFIE_INLINE void reduce_rows(float *y, const float *x, Size rows, Size count)
{
   reduce_folded<Rule, PieceKind::row>(y, x, pieces_of_rows(rows, count));
}

/// y[l, j] = all x[l, :, j] as one.
template <RowRule Rule>
SOFIE_KERNEL void reduce_columns(float *y, const float *x, Size lines, Size run, Size inner)
{
   constexpr Size n = lanes<float>;
   if (run > most_pieces) {
      alignas(64) float found[n];
      for (Size l = 0; l < lines; ++l, x += run * inner, y += inner)
         for (Size j = 0; j < inner; j += n) {
            const Size width = inner - j < n ? inner - j : n;
            line_of_pieces<Rule>(found, x + j, {1, 0, 0, run, inner, 4 * inner, width, 0});
            store_some(y + j, load<lanes<float>>(found), width);
         }
      return;
   }
   const Size line = run * inner, wide = inner / (4 * n) * (4 * n);
   for (Size l = 0; l < lines; ++l)
      for (Size j = 0; j < wide; j += 4 * n)
         reduce_pieces<Rule, PieceKind::wide>(y + l * inner + j, x + l * line + j, {1, 0, 0, 4 * run, n, inner, n, 0});
   for (Size j = wide; j < inner; j += n) {
      const Size width = inner - j < n ? inner - j : n;
      reduce_pieces<Rule, PieceKind::columns>(y + j, x + j, {lines, line, inner, run, inner, 4 * inner, width, 0});
   }
}
#endif

} // namespace sofie

SOFIE_END

#endif
