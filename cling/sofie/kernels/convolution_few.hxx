/// \file
/// The tile of a convolution with up to four features, in assembler.
#ifndef SOFIE_KERNELS_CONVOLUTION_FEW_HXX
#define SOFIE_KERNELS_CONVOLUTION_FEW_HXX

#include "sofie/kernels/convolution_tile.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_DENSE_ASSEMBLER

/// One tile, or several whose x and y are so many bytes apart and which all have `packs` packs. What exists of these
/// is in the mask, one bit for each column. If they have a y, the end is another one afterwards.
struct ConvFewTiles {
   ConvTileEnd<float> end;
   Size x_step, y_step, tiles, packs, mask[2];
};

/// Tiles of so many columns.
SOFIE_INLINE void conv_few_columns(ConvFewTiles &run, Size count)
{
   run.packs = (count + lanes<float> - 1) / lanes<float>;
   run.mask[0] = count < 64 ? (Size{1} << count) - 1 : Size{-1};
   run.mask[1] = count < 64 ? 0 : count < 128 ? (Size{1} << (count - 64)) - 1 : Size{-1};
}

// clang-format off
// A pack of x: its products with the weights of each row, which are in zmm24 to zmm27. A tile with fewer packs begins
// behind the first labels.
#define SOFIE_FEW_LABEL(pack) "4" #pack ":\n\t"
#define SOFIE_FEW_NOTHING(pack)
#define SOFIE_FEW_X(pack) "vmovups 64*" #pack "(%[x],%[at],4), %%zmm28\n\t"
#define SOFIE_FEW_ADD(w, a) "vfmadd231ps %%zmm28, %%zmm" #w ", %%zmm" #a "\n\t"
#define SOFIE_FEW_PACK_1(label, pack, a) \
   label(pack) "vfmadd231ps 64*" #pack "(%[x],%[at],4), %%zmm24, %%zmm" #a "\n\t"
#define SOFIE_FEW_PACK_2(label, pack, a, b) label(pack) SOFIE_FEW_X(pack) SOFIE_FEW_ADD(24, a) SOFIE_FEW_ADD(25, b)
#define SOFIE_FEW_PACK_4(label, pack, a, b, c, d) \
   SOFIE_FEW_PACK_2(label, pack, a, b) SOFIE_FEW_ADD(26, c) SOFIE_FEW_ADD(27, d)
#define SOFIE_FEW_PRODUCTS_1(label) \
   SOFIE_FEW_PACK_1(label, 7, 7) SOFIE_FEW_PACK_1(label, 6, 6) SOFIE_FEW_PACK_1(label, 5, 5) SOFIE_FEW_PACK_1(label, 4, 4) \
   SOFIE_FEW_PACK_1(label, 3, 3) SOFIE_FEW_PACK_1(label, 2, 2) SOFIE_FEW_PACK_1(label, 1, 1) SOFIE_FEW_PACK_1(label, 0, 0)
#define SOFIE_FEW_PRODUCTS_2(label) \
   SOFIE_FEW_PACK_2(label, 7, 7, 15) SOFIE_FEW_PACK_2(label, 6, 6, 14) SOFIE_FEW_PACK_2(label, 5, 5, 13) SOFIE_FEW_PACK_2(label, 4, 4, 12) \
   SOFIE_FEW_PACK_2(label, 3, 3, 11) SOFIE_FEW_PACK_2(label, 2, 2, 10) SOFIE_FEW_PACK_2(label, 1, 1, 9) SOFIE_FEW_PACK_2(label, 0, 0, 8)
#define SOFIE_FEW_PRODUCTS_4(label) \
   SOFIE_FEW_PACK_4(label, 5, 5, 11, 17, 23) SOFIE_FEW_PACK_4(label, 4, 4, 10, 16, 22) SOFIE_FEW_PACK_4(label, 3, 3, 9, 15, 21) \
   SOFIE_FEW_PACK_4(label, 2, 2, 8, 14, 20) SOFIE_FEW_PACK_4(label, 1, 1, 7, 13, 19) SOFIE_FEW_PACK_4(label, 0, 0, 6, 12, 18)

// The weights of a step, which counts from -depth to 0, or of the one behind it; where they begin and go on.
#define SOFIE_FEW_WEIGHTS_1(i) "vbroadcastss 4*" #i "(%[w],%[k],4), %%zmm24\n\t"
#define SOFIE_FEW_WEIGHTS_2(i) \
   "vbroadcastss 8*" #i "(%[w],%[k],8), %%zmm24\n\tvbroadcastss 4+8*" #i "(%[w],%[k],8), %%zmm25\n\t"
#define SOFIE_FEW_WEIGHTS_4(i)                                                                                       \
   "vbroadcastss 16*" #i "(%[now]), %%zmm24\n\tvbroadcastss 4+16*" #i "(%[now]), %%zmm25\n\t"                       \
   "vbroadcastss 8+16*" #i "(%[now]), %%zmm26\n\tvbroadcastss 12+16*" #i "(%[now]), %%zmm27\n\t"
#define SOFIE_FEW_FROM_1
#define SOFIE_FEW_FROM_2
#define SOFIE_FEW_FROM_4 "mov %[k], %[now]\n\tshl $4, %[now]\n\tadd %[w], %[now]\n\t"
#define SOFIE_FEW_ON_1(steps)
#define SOFIE_FEW_ON_2(steps)
#define SOFIE_FEW_ON_4(steps) "add $16*" #steps ", %[now]\n\t"

// Where the products of a tile begin, which has at least so many packs.
#define SOFIE_FEW_BEGIN(packs, pack) \
   "lea 4" #pack "f(%%rip), %[k]\n\tcmpq $" #packs ", 88(%[run])\n\tcmovge %[k], %[begin]\n\t"
#define SOFIE_FEW_ALL_1 "47"
#define SOFIE_FEW_ALL_2 "47"
#define SOFIE_FEW_ALL_4 "45"
#define SOFIE_FEW_BEGINS_6 \
   SOFIE_FEW_BEGIN(2, 1) SOFIE_FEW_BEGIN(3, 2) SOFIE_FEW_BEGIN(4, 3) SOFIE_FEW_BEGIN(5, 4) SOFIE_FEW_BEGIN(6, 5)
#define SOFIE_FEW_BEGINS_1 SOFIE_FEW_BEGINS_6 SOFIE_FEW_BEGIN(7, 6) SOFIE_FEW_BEGIN(8, 7)
#define SOFIE_FEW_BEGINS_2 SOFIE_FEW_BEGINS_1
#define SOFIE_FEW_BEGINS_4 SOFIE_FEW_BEGINS_6

// Each pack of a row, whose sums are at `sums`; each row.
#define SOFIE_FEW_ROW_6(each, sums, a, b, c, d, e, f) \
   each(sums, 0, a) each(sums, 1, b) each(sums, 2, c) each(sums, 3, d) each(sums, 4, e) each(sums, 5, f)
#define SOFIE_FEW_ROW_8(each, sums, a, b, c, d, e, f, g, h) \
   SOFIE_FEW_ROW_6(each, sums, a, b, c, d, e, f) each(sums, 6, g) each(sums, 7, h)
#define SOFIE_FEW_FIRST_1(each) SOFIE_FEW_ROW_8(each, 0, 0, 1, 2, 3, 4, 5, 6, 7)
#define SOFIE_FEW_SECOND_2(each) SOFIE_FEW_ROW_8(each, 512, 8, 9, 10, 11, 12, 13, 14, 15)
#define SOFIE_FEW_FIRST_4(each) SOFIE_FEW_ROW_6(each, 0, 0, 1, 2, 3, 4, 5)
#define SOFIE_FEW_SECOND_4(each) SOFIE_FEW_ROW_6(each, 384, 6, 7, 8, 9, 10, 11)
#define SOFIE_FEW_THIRD_4(each) SOFIE_FEW_ROW_6(each, 768, 12, 13, 14, 15, 16, 17)
#define SOFIE_FEW_FOURTH_4(each) SOFIE_FEW_ROW_6(each, 1152, 18, 19, 20, 21, 22, 23)
#define SOFIE_FEW_EACH_1(each) SOFIE_FEW_FIRST_1(each)
#define SOFIE_FEW_EACH_2(each) SOFIE_FEW_FIRST_1(each) SOFIE_FEW_SECOND_2(each)
#define SOFIE_FEW_EACH_4(each) \
   SOFIE_FEW_FIRST_4(each) SOFIE_FEW_SECOND_4(each) SOFIE_FEW_THIRD_4(each) SOFIE_FEW_FOURTH_4(each)

#define SOFIE_FEW_ZERO(sums, pack, a) "vpxord %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_FEW_LOAD_SUM(sums, pack, a) "vaddps " #sums "+64*" #pack "(%[at]), %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_FEW_STORE_SUM(sums, pack, a) "vmovups %%zmm" #a ", " #sums "+64*" #pack "(%[at])\n\t"
#define SOFIE_FEW_BIAS(sums, pack, a) "vaddps %%zmm24, %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_FEW_ADDED(sums, pack, a) \
   "kmovw 96+2*" #pack "(%[run]), %%k1\n\tvaddps 64*" #pack "(%[step]), %%zmm" #a ", %%zmm" #a "%{%%k1%}\n\t"
#define SOFIE_FEW_RESULT(sums, pack, a)                              \
   "kmovw 96+2*" #pack "(%[run]), %%k1\n\t"                         \
   "vmaxps %%zmm" #a ", %%zmm31, %%zmm" #a "\n\t"                    \
   "vmovups %%zmm" #a ", 64*" #pack "(%[at])%{%%k1%}\n\t"
#define SOFIE_FEW_FINISH(row, each)                                  \
   "vbroadcastss 4*" #row "(%[now]), %%zmm24\n\t"                    \
   each(SOFIE_FEW_BIAS)                                              \
   "test %[step], %[step]\n\t"                                       \
   "jz 5f\n\t"                                                       \
   each(SOFIE_FEW_ADDED)                                             \
   "add 32(%[run]), %[step]\n\t"                                     \
   "5:\n\t"                                                          \
   each(SOFIE_FEW_RESULT)                                            \
   "add 32(%[run]), %[at]\n\t"                                       \
   "dec %[k]\n\t"                                                    \
   "jz 7f\n\t"
#define SOFIE_FEW_FINISHES_1 SOFIE_FEW_FINISH(0, SOFIE_FEW_FIRST_1)
#define SOFIE_FEW_FINISHES_2 SOFIE_FEW_FINISHES_1 SOFIE_FEW_FINISH(1, SOFIE_FEW_SECOND_2)
#define SOFIE_FEW_FINISHES_4 \
   SOFIE_FEW_FINISH(0, SOFIE_FEW_FIRST_4) SOFIE_FEW_FINISH(1, SOFIE_FEW_SECOND_4) \
   SOFIE_FEW_FINISH(2, SOFIE_FEW_THIRD_4) SOFIE_FEW_FINISH(3, SOFIE_FEW_FOURTH_4)

#define SOFIE_FEW_TILES(rows)                                        \
   asm volatile(                                                     \
      "lea 40f(%%rip), %[begin]\n\t"                                 \
      SOFIE_FEW_BEGINS_##rows                                        \
      "20:\n\t"                                                      \
      SOFIE_FEW_EACH_##rows(SOFIE_FEW_ZERO)                          \
      "mov %[depth], %[k]\n\t"                                       \
      SOFIE_FEW_FROM_##rows                                          \
      "test %[k], %[k]\n\t"                                          \
      "jge 2f\n\t"                                                   \
      "lea " SOFIE_FEW_ALL_##rows "f(%%rip), %[at]\n\t"              \
      "cmp %[at], %[begin]\n\t"                                      \
      "je 10f\n\t"                                                   \
      ".p2align 5\n"                                                 \
      "1:\n\t"                                                       \
      "movslq (%[offsets],%[k],4), %[at]\n\t"                        \
      SOFIE_FEW_WEIGHTS_##rows(0)                                    \
      SOFIE_FEW_ON_##rows(1)                                         \
      "jmp *%[begin]\n"                                              \
      SOFIE_FEW_PRODUCTS_##rows(SOFIE_FEW_LABEL)                     \
      "inc %[k]\n\t"                                                 \
      "jnz 1b\n\t"                                                   \
      "jmp 2f\n\t"                                                   \
      /* Two steps with all packs. */                                \
      ".p2align 5\n"                                                 \
      "9:\n\t"                                                       \
      "movslq (%[offsets],%[k],4), %[at]\n\t"                        \
      SOFIE_FEW_WEIGHTS_##rows(0)                                    \
      SOFIE_FEW_PRODUCTS_##rows(SOFIE_FEW_NOTHING)                   \
      "movslq 4(%[offsets],%[k],4), %[at]\n\t"                       \
      SOFIE_FEW_WEIGHTS_##rows(1)                                    \
      SOFIE_FEW_ON_##rows(2)                                         \
      SOFIE_FEW_PRODUCTS_##rows(SOFIE_FEW_NOTHING)                   \
      "add $2, %[k]\n"                                               \
      "10:\n\t"                                                      \
      "cmp $-1, %[k]\n\t"                                            \
      "jl 9b\n\t"                                                    \
      "je 1b\n"                                                      \
      "2:\n\t"                                                       \
      "mov (%[run]), %[at]\n\t"                                      \
      "cmpl $0, 56(%[run])\n\t"                                      \
      "je 3f\n\t"                                                    \
      SOFIE_FEW_EACH_##rows(SOFIE_FEW_LOAD_SUM)                      \
      "3:\n\t"                                                       \
      "cmpq $0, 8(%[run])\n\t"                                       \
      "jne 4f\n\t"                                                   \
      SOFIE_FEW_EACH_##rows(SOFIE_FEW_STORE_SUM)                     \
      "jmp 6f\n"                                                     \
      "4:\n\t"                                                       \
      "mov 8(%[run]), %[at]\n\t"                                     \
      "mov 16(%[run]), %[now]\n\t"                                   \
      "mov 24(%[run]), %[step]\n\t"                                  \
      "mov 40(%[run]), %[k]\n\t"                                     \
      "vbroadcastss 60(%[run]), %%zmm31\n\t"                         \
      SOFIE_FEW_FINISHES_##rows                                      \
      "7:\n\t"                                                       \
      "add 64(%[run]), %[x]\n\t"                                     \
      "mov 72(%[run]), %[k]\n\t"                                     \
      "add %[k], 8(%[run])\n\t"                                      \
      "cmpq $0, 24(%[run])\n\t"                                      \
      "je 8f\n\t"                                                    \
      "add %[k], 24(%[run])\n"                                       \
      "8:\n\t"                                                       \
      "decq 80(%[run])\n\t"                                         \
      "jnz 20b\n"                                                    \
      "6:\n\t"                                                       \
      : [x] "+&r"(x), [now] "=&r"(now), [step] "=&r"(step), [k] "=&r"(k), [at] "=&r"(at), [begin] "=&r"(begin)             \
      : [w] "r"(w), [offsets] "r"(offsets), [depth] "m"(depth), [run] "r"(&run)                                            \
      : "memory", "cc", "k1", SOFIE_ALL_PACKS)
// clang-format on

/// `sums[r][j] (+)= sum_k w[k][r] * x[offsets[k] + j]`, or what the end says: for each tile.
template <int Rows>
SOFIE_KERNEL void conv_few_tiles(const float *w, const float *x, const std::int32_t *offsets, Size depth,
                                 ConvFewTiles &run)
{
   static_assert(sizeof(ConvFewTiles) == 112, "the assembler knows where its members are");
   const float *now;
   const std::int32_t *step;
   Size k, at;
   const void *begin;
   w += depth * Rows;
   offsets += depth;
   depth = -depth;
   if constexpr (Rows == 4)
      SOFIE_FEW_TILES(4);
   else if constexpr (Rows == 2)
      SOFIE_FEW_TILES(2);
   else
      SOFIE_FEW_TILES(1);
}

#endif

/// One tile of so many columns.
template <int Rows, class T>
SOFIE_INLINE void conv_few_tile([[maybe_unused]] const T *w, [[maybe_unused]] const T *x,
                                [[maybe_unused]] const std::int32_t *offsets, [[maybe_unused]] Size depth,
                                [[maybe_unused]] Size count, [[maybe_unused]] const ConvTileEnd<T> &end)
{
#ifdef SOFIE_DENSE_ASSEMBLER
   ConvFewTiles run{end, 0, 0, 1, 0, {}};
   conv_few_columns(run, count);
   conv_few_tiles<Rows>(w, x, offsets, depth, run);
#endif
}

} // namespace sofie

SOFIE_END

#endif
