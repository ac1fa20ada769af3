/// \file
/// The tile of a convolution with up to four features, in assembler; for AVX2, with one or two.
#ifndef SOFIE_KERNELS_CONVOLUTION_FEW_FEATURES_HXX
#define SOFIE_KERNELS_CONVOLUTION_FEW_FEATURES_HXX

#include "sofie/kernels/convolution/tile.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER

/// One tile, or several whose x and y are so many bytes apart and which all have `packs` packs. What exists of these
/// is in the mask, one bit for each column. If they have a y, the end is another one afterwards.
struct ConvFewTiles {
   ConvTileEnd<float> end;
   Size x_step, y_step, tiles, packs, mask[2];
   std::uint64_t bits = 0x8040201008040201; // Those of 8 lanes, for AVX2.
};

/// Tiles of so many columns.
SOFIE_INLINE void conv_few_columns(ConvFewTiles &run, Size count)
{
   run.packs = (count + lanes<float> - 1) / lanes<float>;
   run.mask[0] = count < 64 ? (Size{1} << count) - 1 : Size{-1};
   run.mask[1] = count < 64 ? 0 : count < 128 ? (Size{1} << (count - 64)) - 1 : Size{-1};
}

// clang-format off
// What differs: how many packs two rows have, and how packs are moved of which some columns exist.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_FEW_MASKED(pack, whole, some) "kmovw %c[mask]+2*" #pack "(%[run]), %%k1\n\t" some
#define SOFIE_FEW_ALL_2 "47"
#define SOFIE_FEW_BEGINS_2 SOFIE_FEW_BEGINS_1
#else
#define SOFIE_FEW_MASKED(pack, whole, some)                                                                          \
   "cmpb $-1, %c[mask]+" #pack "(%[run])\n\tjne 91f\n\t" whole "jmp 92f\n"                                          \
   "91:\n\tvpmovzxbd %c[bits](%[run]), %%ymm14\n\tvpbroadcastd %c[mask]+" #pack "(%[run]), %%ymm13\n\t"            \
   "vpand %%ymm14, %%ymm13, %%ymm13\n\tvpcmpeqd %%ymm14, %%ymm13, %%ymm14\n\t" some "92:\n\t"
#define SOFIE_FEW_ALL_2 "45"
#define SOFIE_FEW_BEGINS_2 SOFIE_FEW_BEGINS_6
#endif
// A pack of x: its products with the weights of each row. A tile with fewer packs begins behind the first labels.
#define SOFIE_FEW_LABEL(pack) "4" #pack ":\n\t"
#define SOFIE_FEW_NOTHING(pack)
#define SOFIE_FEW_AT(pack) SOFIE_PACK_BYTES "*" #pack "(%[x],%[at],4)"
#define SOFIE_FEW_ADD(w, x, a) "vfmadd231ps " x ", " w ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_FEW_PACK_1(label, pack, a) label(pack) SOFIE_FEW_ADD(SOFIE_DENSE_W0, SOFIE_FEW_AT(pack), a)
#define SOFIE_FEW_PACK_2(label, pack, a, b)                                                                          \
   label(pack) "vmovups " SOFIE_FEW_AT(pack) ", " SOFIE_DENSE_X(28) "\n\t"                                           \
   SOFIE_FEW_ADD(SOFIE_DENSE_W0, SOFIE_DENSE_X(28), a) SOFIE_FEW_ADD(SOFIE_DENSE_W1, SOFIE_DENSE_X(28), b)
#define SOFIE_FEW_PACK_4(label, pack, a, b, c, d)                                                                    \
   SOFIE_FEW_PACK_2(label, pack, a, b)                                                                               \
   SOFIE_FEW_ADD(SOFIE_DENSE_W2, SOFIE_DENSE_X(28), c) SOFIE_FEW_ADD(SOFIE_DENSE_X(27), SOFIE_DENSE_X(28), d)
#define SOFIE_FEW_PRODUCTS_1(label) \
   SOFIE_FEW_PACK_1(label, 7, 7) SOFIE_FEW_PACK_1(label, 6, 6) SOFIE_FEW_PACK_1(label, 5, 5) SOFIE_FEW_PACK_1(label, 4, 4) \
   SOFIE_FEW_PACK_1(label, 3, 3) SOFIE_FEW_PACK_1(label, 2, 2) SOFIE_FEW_PACK_1(label, 1, 1) SOFIE_FEW_PACK_1(label, 0, 0)
#define SOFIE_FEW_PRODUCTS_2(label) \
   SOFIE_DENSE_LOWER(SOFIE_FEW_PACK_2(label, 7, 13, 15) SOFIE_FEW_PACK_2(label, 6, 12, 14)) \
   SOFIE_FEW_PACK_2(label, 5, 5, 11) SOFIE_FEW_PACK_2(label, 4, 4, 10) SOFIE_FEW_PACK_2(label, 3, 3, 9) \
   SOFIE_FEW_PACK_2(label, 2, 2, 8) SOFIE_FEW_PACK_2(label, 1, 1, 7) SOFIE_FEW_PACK_2(label, 0, 0, 6)
#define SOFIE_FEW_PRODUCTS_4(label) \
   SOFIE_FEW_PACK_4(label, 5, 5, 11, 17, 23) SOFIE_FEW_PACK_4(label, 4, 4, 10, 16, 22) SOFIE_FEW_PACK_4(label, 3, 3, 9, 15, 21) \
   SOFIE_FEW_PACK_4(label, 2, 2, 8, 14, 20) SOFIE_FEW_PACK_4(label, 1, 1, 7, 13, 19) SOFIE_FEW_PACK_4(label, 0, 0, 6, 12, 18)

// The weights of a step, which counts from -depth to 0, or of the one behind it; where they begin and go on.
#define SOFIE_FEW_WEIGHT(place, w) "vbroadcastss " place ", " w "\n\t"
#define SOFIE_FEW_WEIGHTS_1(i) SOFIE_FEW_WEIGHT("4*" #i "(%[w],%[k],4)", SOFIE_DENSE_W0)
#define SOFIE_FEW_WEIGHTS_2(i) \
   SOFIE_FEW_WEIGHT("8*" #i "(%[w],%[k],8)", SOFIE_DENSE_W0) SOFIE_FEW_WEIGHT("4+8*" #i "(%[w],%[k],8)", SOFIE_DENSE_W1)
#define SOFIE_FEW_WEIGHTS_4(i) \
   SOFIE_FEW_WEIGHT("16*" #i "(%[now])", SOFIE_DENSE_W0) SOFIE_FEW_WEIGHT("4+16*" #i "(%[now])", SOFIE_DENSE_W1) \
   SOFIE_FEW_WEIGHT("8+16*" #i "(%[now])", SOFIE_DENSE_W2) SOFIE_FEW_WEIGHT("12+16*" #i "(%[now])", SOFIE_DENSE_X(27))
#define SOFIE_FEW_FROM_1
#define SOFIE_FEW_FROM_2
#define SOFIE_FEW_FROM_4 "mov %[k], %[now]\n\tshl $4, %[now]\n\tadd %[w], %[now]\n\t"
#define SOFIE_FEW_ON_1(steps)
#define SOFIE_FEW_ON_2(steps)
#define SOFIE_FEW_ON_4(steps) "add $16*" #steps ", %[now]\n\t"

// Where the products of a tile begin, which has at least so many packs.
#define SOFIE_FEW_BEGIN(packs, pack) \
   "lea 4" #pack "f(%%rip), %[k]\n\tcmpq $" #packs ", %c[packs](%[run])\n\tcmovge %[k], %[begin]\n\t"
#define SOFIE_FEW_ALL_1 "47"
#define SOFIE_FEW_ALL_4 "45"
#define SOFIE_FEW_BEGINS_6 \
   SOFIE_FEW_BEGIN(2, 1) SOFIE_FEW_BEGIN(3, 2) SOFIE_FEW_BEGIN(4, 3) SOFIE_FEW_BEGIN(5, 4) SOFIE_FEW_BEGIN(6, 5)
#define SOFIE_FEW_BEGINS_1 SOFIE_FEW_BEGINS_6 SOFIE_FEW_BEGIN(7, 6) SOFIE_FEW_BEGIN(8, 7)
#define SOFIE_FEW_BEGINS_4 SOFIE_FEW_BEGINS_6

// Each pack of a row, whose sums begin with the pack `sums`; each row.
#define SOFIE_FEW_ROW_6(each, sums, a, b, c, d, e, f) \
   each(sums, 0, a) each(sums, 1, b) each(sums, 2, c) each(sums, 3, d) each(sums, 4, e) each(sums, 5, f)
#define SOFIE_FEW_ROW_8(each, sums, a, b, c, d, e, f, g, h) \
   SOFIE_FEW_ROW_6(each, sums, a, b, c, d, e, f) each(sums, 6, g) each(sums, 7, h)
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_FEW_FIRST_2(each) SOFIE_FEW_ROW_8(each, 0, 0, 1, 2, 3, 4, 5, 12, 13)
#define SOFIE_FEW_SECOND_2(each) SOFIE_FEW_ROW_8(each, 8, 6, 7, 8, 9, 10, 11, 14, 15)
#else
#define SOFIE_FEW_FIRST_2(each) SOFIE_FEW_FIRST_4(each)
#define SOFIE_FEW_SECOND_2(each) SOFIE_FEW_SECOND_4(each)
#endif
#define SOFIE_FEW_FIRST_1(each) SOFIE_FEW_ROW_8(each, 0, 0, 1, 2, 3, 4, 5, 6, 7)
#define SOFIE_FEW_FIRST_4(each) SOFIE_FEW_ROW_6(each, 0, 0, 1, 2, 3, 4, 5)
#define SOFIE_FEW_SECOND_4(each) SOFIE_FEW_ROW_6(each, 6, 6, 7, 8, 9, 10, 11)
#define SOFIE_FEW_THIRD_4(each) SOFIE_FEW_ROW_6(each, 12, 12, 13, 14, 15, 16, 17)
#define SOFIE_FEW_FOURTH_4(each) SOFIE_FEW_ROW_6(each, 18, 18, 19, 20, 21, 22, 23)
#define SOFIE_FEW_EACH_1(each) SOFIE_FEW_FIRST_1(each)
#define SOFIE_FEW_EACH_2(each) SOFIE_FEW_FIRST_2(each) SOFIE_FEW_SECOND_2(each)
#define SOFIE_FEW_EACH_4(each) \
   SOFIE_FEW_FIRST_4(each) SOFIE_FEW_SECOND_4(each) SOFIE_FEW_THIRD_4(each) SOFIE_FEW_FOURTH_4(each)

#define SOFIE_FEW_ZERO(sums, pack, a) SOFIE_DENSE_ZERO(a)
#define SOFIE_FEW_SUM(sums, pack) "(" #sums "+" #pack ")*" SOFIE_PACK_BYTES "(%[at])"
#define SOFIE_FEW_LOAD_SUM(sums, pack, a) \
   "vaddps " SOFIE_FEW_SUM(sums, pack) ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_FEW_STORE_SUM(sums, pack, a) "vmovups " SOFIE_PACK(a) ", " SOFIE_FEW_SUM(sums, pack) "\n\t"
#define SOFIE_FEW_BIAS(sums, pack, a) "vaddps " SOFIE_DENSE_W0 ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_FEW_PLACE(pack, at) SOFIE_PACK_BYTES "*" #pack at
#define SOFIE_FEW_ADDED(sums, pack, a)                                                                               \
   SOFIE_FEW_MASKED(pack, "vaddps " SOFIE_FEW_PLACE(pack, "(%[step])") ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t", \
                    SOFIE_PACK_ADD_SOME(SOFIE_FEW_PLACE(pack, "(%[step])"), SOFIE_PACK(a)))
#define SOFIE_FEW_RESULT(sums, pack, a)                                                                              \
   "vmaxps " SOFIE_PACK(a) ", " SOFIE_DENSE_X(31) ", " SOFIE_PACK(a) "\n\t"                                          \
   SOFIE_FEW_MASKED(pack, "vmovups " SOFIE_PACK(a) ", " SOFIE_FEW_PLACE(pack, "(%[at])") "\n\t",                     \
                    SOFIE_PACK_STORE_SOME(SOFIE_PACK(a), SOFIE_FEW_PLACE(pack, "(%[at])")))
#define SOFIE_FEW_FINISH(row, each)                                  \
   SOFIE_FEW_WEIGHT("4*" #row "(%[now])", SOFIE_DENSE_W0)            \
   each(SOFIE_FEW_BIAS)                                              \
   "test %[step], %[step]\n\t"                                       \
   "jz 5f\n\t"                                                       \
   each(SOFIE_FEW_ADDED)                                             \
   "add %c[stride](%[run]), %[step]\n\t"                                     \
   "5:\n\t"                                                          \
   each(SOFIE_FEW_RESULT)                                            \
   "add %c[stride](%[run]), %[at]\n\t"                                       \
   "dec %[k]\n\t"                                                    \
   "jz 7f\n\t"
#define SOFIE_FEW_FINISHES_1 SOFIE_FEW_FINISH(0, SOFIE_FEW_FIRST_1)
#define SOFIE_FEW_FINISHES_2 SOFIE_FEW_FINISH(0, SOFIE_FEW_FIRST_2) SOFIE_FEW_FINISH(1, SOFIE_FEW_SECOND_2)
#define SOFIE_FEW_FINISHES_4 \
   SOFIE_FEW_FINISH(0, SOFIE_FEW_FIRST_4) SOFIE_FEW_FINISH(1, SOFIE_FEW_SECOND_4) \
   SOFIE_FEW_FINISH(2, SOFIE_FEW_THIRD_4) SOFIE_FEW_FINISH(3, SOFIE_FEW_FOURTH_4)

#define SOFIE_FEW_MEMBER(name, member) [name] "i"(__builtin_offsetof(ConvFewTiles, member))
#define SOFIE_FEW_TILES(count)                                        \
   asm volatile(                                                     \
      "lea 40f(%%rip), %[begin]\n\t"                                 \
      SOFIE_FEW_BEGINS_##count                                        \
      "20:\n\t"                                                      \
      SOFIE_FEW_EACH_##count(SOFIE_FEW_ZERO)                          \
      "mov %[depth], %[k]\n\t"                                       \
      SOFIE_FEW_FROM_##count                                          \
      "test %[k], %[k]\n\t"                                          \
      "jge 2f\n\t"                                                   \
      "lea " SOFIE_FEW_ALL_##count "f(%%rip), %[at]\n\t"              \
      "cmp %[at], %[begin]\n\t"                                      \
      "je 10f\n\t"                                                   \
      ".p2align 5\n"                                                 \
      "1:\n\t"                                                       \
      "movslq (%[offsets],%[k],4), %[at]\n\t"                        \
      SOFIE_FEW_WEIGHTS_##count(0)                                    \
      SOFIE_FEW_ON_##count(1)                                         \
      "jmp *%[begin]\n"                                              \
      SOFIE_FEW_PRODUCTS_##count(SOFIE_FEW_LABEL)                     \
      "inc %[k]\n\t"                                                 \
      "jnz 1b\n\t"                                                   \
      "jmp 2f\n\t"                                                   \
      /* Two steps with all packs. */                                \
      ".p2align 5\n"                                                 \
      "9:\n\t"                                                       \
      "movslq (%[offsets],%[k],4), %[at]\n\t"                        \
      SOFIE_FEW_WEIGHTS_##count(0)                                    \
      SOFIE_FEW_PRODUCTS_##count(SOFIE_FEW_NOTHING)                   \
      "movslq 4(%[offsets],%[k],4), %[at]\n\t"                       \
      SOFIE_FEW_WEIGHTS_##count(1)                                    \
      SOFIE_FEW_ON_##count(2)                                         \
      SOFIE_FEW_PRODUCTS_##count(SOFIE_FEW_NOTHING)                   \
      "add $2, %[k]\n"                                               \
      "10:\n\t"                                                      \
      "cmp $-1, %[k]\n\t"                                            \
      "jl 9b\n\t"                                                    \
      "je 1b\n"                                                      \
      "2:\n\t"                                                       \
      "mov %c[sums](%[run]), %[at]\n\t"                                      \
      "cmpl $0, %c[add](%[run])\n\t"                                      \
      "je 3f\n\t"                                                    \
      SOFIE_FEW_EACH_##count(SOFIE_FEW_LOAD_SUM)                      \
      "3:\n\t"                                                       \
      "cmpq $0, %c[y](%[run])\n\t"                                       \
      "jne 4f\n\t"                                                   \
      SOFIE_FEW_EACH_##count(SOFIE_FEW_STORE_SUM)                     \
      "jmp 6f\n"                                                     \
      "4:\n\t"                                                       \
      "mov %c[y](%[run]), %[at]\n\t"                                     \
      "mov %c[bias](%[run]), %[now]\n\t"                                   \
      "mov %c[added](%[run]), %[step]\n\t"                                  \
      "mov %c[rows](%[run]), %[k]\n\t"                                     \
      SOFIE_FEW_WEIGHT("%c[floor](%[run])", SOFIE_DENSE_X(31))                         \
      SOFIE_FEW_FINISHES_##count                                      \
      "7:\n\t"                                                       \
      "add %c[x_step](%[run]), %[x]\n\t"                                     \
      "mov %c[y_step](%[run]), %[k]\n\t"                                     \
      "add %[k], %c[y](%[run])\n\t"                                      \
      "cmpq $0, %c[added](%[run])\n\t"                                      \
      "je 8f\n\t"                                                    \
      "add %[k], %c[added](%[run])\n"                                       \
      "8:\n\t"                                                       \
      "decq %c[tiles](%[run])\n\t"                                         \
      "jnz 20b\n"                                                    \
      "6:\n\t"                                                       \
      : [x] "+&r"(x), [now] "=&r"(now), [step] "=&r"(step), [k] "=&r"(k), [at] "=&r"(at), [begin] "=&r"(begin)             \
      : [w] "r"(w), [offsets] "r"(offsets), [depth] "m"(depth), [run] "r"(&run),                                           \
        SOFIE_FEW_MEMBER(sums, end.sums), SOFIE_FEW_MEMBER(y, end.y), SOFIE_FEW_MEMBER(bias, end.bias),                    \
        SOFIE_FEW_MEMBER(added, end.added), SOFIE_FEW_MEMBER(stride, end.stride), SOFIE_FEW_MEMBER(rows, end.rows),        \
        SOFIE_FEW_MEMBER(add, end.add), SOFIE_FEW_MEMBER(floor, end.floor), SOFIE_FEW_MEMBER(x_step, x_step),              \
        SOFIE_FEW_MEMBER(y_step, y_step), SOFIE_FEW_MEMBER(tiles, tiles), SOFIE_FEW_MEMBER(packs, packs),                  \
        SOFIE_FEW_MEMBER(mask, mask), SOFIE_FEW_MEMBER(bits, bits)                                                         \
      : "memory", "cc", SOFIE_DENSE_REGISTERS)
// clang-format on

/// `sums[r][j] (+)= sum_k w[k][r] * x[offsets[k] + j]`, or what the end says: for each tile.
template <int Rows>
SOFIE_KERNEL void conv_few_tiles(const float *w, const float *x, const std::int32_t *offsets, Size depth,
                                 ConvFewTiles &run)
{
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

} // namespace sofie

SOFIE_END

#endif
