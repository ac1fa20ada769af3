/// \file
/// The tile of accumulators that products of many rows are made of, and that of a single row.
///
/// A loop over k with many accumulators is what Cling's register allocator is worst at: it writes all
/// of them to memory at the end of each block, and long blocks do not fit into the cache of decoded
/// instructions. Where most of the time is spent the loop is written in assembler: one text for AVX-512
/// and for AVX2, which has half as many registers and so the first 4 rows of a tile.
#ifndef SOFIE_KERNELS_DENSE_TILE_HXX
#define SOFIE_KERNELS_DENSE_TILE_HXX

#include "sofie/assembler.hxx"
#include "sofie/simd.hxx"

#if defined(SOFIE_AVX512_ASSEMBLER) || defined(SOFIE_AVX2_ASSEMBLER)
// Those that both instruction sets have.
#define SOFIE_TILE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

// clang-format off
// What differs: the registers; where a step's packs of w and its numbers of x are; and how a pack is stored of which some
// columns exist, as the bits at `mask` say. AVX2 takes tens of cycles for that on some CPUs: most packs are whole.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_PACK_KIND "%%zmm"
#define SOFIE_PACK_BYTES "64"
#define SOFIE_PACK_ZERO "vpxord"
#define SOFIE_DENSE_W0 "%%zmm24"
#define SOFIE_DENSE_W1 "%%zmm25"
#define SOFIE_DENSE_W2 "%%zmm26"
#define SOFIE_DENSE_X(number) "%%zmm" #number
#define SOFIE_DENSE_LOWER(...) __VA_ARGS__
#define SOFIE_PACK_STORE_SOME(pack, place) "vmovups " pack ", " place "%{%%k1%}\n\t"
#define SOFIE_PACK_ADD_SOME(place, pack) "vaddps " place ", " pack ", " pack "%{%%k1%}\n\t"
#define SOFIE_DENSE_WHOLE_OR_SOME(mask, whole, some) "kmovw " mask ", %%k1\n\t" some
#define SOFIE_DENSE_REGISTERS "k1", SOFIE_ALL_PACKS
#else
#define SOFIE_PACK_KIND "%%ymm"
#define SOFIE_PACK_BYTES "32"
#define SOFIE_PACK_ZERO "vpxor"
#define SOFIE_DENSE_W0 "%%ymm12"
#define SOFIE_DENSE_W1 "%%ymm13"
#define SOFIE_DENSE_W2 "%%ymm14"
#define SOFIE_DENSE_X(number) "%%ymm15"
#define SOFIE_DENSE_LOWER(...)
#define SOFIE_PACK_STORE_SOME(pack, place) "vmaskmovps " pack ", %%ymm14, " place "\n\t"
#define SOFIE_PACK_ADD_SOME(place, pack) \
   "vmaskmovps " place ", %%ymm14, %%ymm13\n\tvaddps %%ymm13, " pack ", " pack "\n\t"
// The bit of each lane, and whether the mask has it.
#define SOFIE_DENSE_WHOLE_OR_SOME(mask, whole, some)                                                           \
   "cmpb $-1, " mask "\n\tjne 91f\n\t" whole "jmp 92f\n"                                                      \
   "91:\n\tmovabs $0x8040201008040201, %[w]\n\tvmovq %[w], %%xmm14\n\tvpmovzxbd %%xmm14, %%ymm14\n\t"          \
   "vpbroadcastd " mask ", %%ymm15\n\tvpand %%ymm14, %%ymm15, %%ymm15\n\t"                                    \
   "vpcmpeqd %%ymm14, %%ymm15, %%ymm14\n\t" some "92:\n\t"
#define SOFIE_DENSE_REGISTERS SOFIE_ALL_YMM
#endif
#define SOFIE_PACK(a) SOFIE_PACK_KIND #a
// clang-format on

/// How many rows of x such a tile has, or only half of them; and how long a row of its sums is.
inline constexpr int dense_tile_rows = SOFIE_SIMD_BYTES == 64 ? 8 : 4, dense_tile_half = 4;
inline constexpr int dense_tile_width = 3 * lanes<float>;

// clang-format off
// The assembler leaves out what is for a second and a third pack where there is none. (A text for each number of packs
// takes three times as long to read.)
#define SOFIE_DENSE_IF_2(text) ".if %c[packs] > 1\n\t" text ".endif\n\t"
#define SOFIE_DENSE_IF_3(text) ".if %c[packs] > 2\n\t" text ".endif\n\t"

// A row: its number of x times the packs of w.
#define SOFIE_DENSE_ROW(x, number, a, b, c)                                                                    \
   "vbroadcastss " x ", " SOFIE_DENSE_X(number) "\n\t"                                                         \
   "vfmadd231ps " SOFIE_DENSE_W0 ", " SOFIE_DENSE_X(number) ", " SOFIE_PACK(a) "\n\t"                           \
   SOFIE_DENSE_IF_2("vfmadd231ps " SOFIE_DENSE_W1 ", " SOFIE_DENSE_X(number) ", " SOFIE_PACK(b) "\n\t")         \
   SOFIE_DENSE_IF_3("vfmadd231ps " SOFIE_DENSE_W2 ", " SOFIE_DENSE_X(number) ", " SOFIE_PACK(c) "\n\t")
#define SOFIE_DENSE_LOADS(place)                                                                               \
   "vmovups " place ", " SOFIE_DENSE_W0 "\n\t"                                                                 \
   SOFIE_DENSE_IF_2("vmovups " SOFIE_PACK_BYTES place ", " SOFIE_DENSE_W1 "\n\t")                              \
   SOFIE_DENSE_IF_3("vmovups 2*" SOFIE_PACK_BYTES place ", " SOFIE_DENSE_W2 "\n\t")
#define SOFIE_DENSE_LOAD SOFIE_DENSE_LOADS("(%[w])")

// The steps of a tile of 8 rows, or of 4 if `half`: numbers of three rows each are reached from x0, x3 and x6.
#define SOFIE_DENSE_STEPS                                                                                         \
   ".p2align 5\n"                                                                                                 \
   "1:\n\t"                                                                                                       \
   SOFIE_DENSE_LOAD                                                                                               \
   SOFIE_DENSE_ROW("(%[x0])", 27, 0, 1, 2)                                                                        \
   SOFIE_DENSE_ROW("(%[x0],%[stride])", 28, 3, 4, 5)                                                              \
   SOFIE_DENSE_ROW("(%[x0],%[stride],2)", 29, 6, 7, 8)                                                            \
   SOFIE_DENSE_ROW("(%[x3])", 30, 9, 10, 11)                                                                      \
   SOFIE_DENSE_LOWER(                                                                                             \
      "test %[half], %[half]\n\t"                                                                                 \
      "jnz 9f\n\t"                                                                                                \
      SOFIE_DENSE_ROW("(%[x3],%[stride])", 27, 12, 13, 14)                                                        \
      SOFIE_DENSE_ROW("(%[x3],%[stride],2)", 28, 15, 16, 17)                                                      \
      SOFIE_DENSE_ROW("(%[x6])", 29, 18, 19, 20)                                                                  \
      SOFIE_DENSE_ROW("(%[x6],%[stride])", 30, 21, 22, 23)                                                        \
      "9:\n\t")                                                                                                   \
   "add %[step], %[x0]\n\t"                                                                                       \
   "add %[step], %[x3]\n\t"                                                                                       \
   SOFIE_DENSE_LOWER("add %[step], %[x6]\n\t")                                                                    \
   "add %[next], %[w]\n\t"                                                                                        \
   "dec %[k]\n\t"                                                                                                 \
   "jnz 1b\n"                                                                                                     \
   "2:\n\t"

#define SOFIE_DENSE_ZERO_OF(pack) SOFIE_PACK_ZERO " " pack ", " pack ", " pack "\n\t"
#define SOFIE_DENSE_ZERO(a) SOFIE_DENSE_ZERO_OF(SOFIE_PACK(a))
// The place of an accumulator: rows of sums have three packs.
#define SOFIE_DENSE_STORE_AT(a, from) "vmovups " SOFIE_PACK(a) ", " #a "*" SOFIE_PACK_BYTES from "\n\t"
#define SOFIE_DENSE_ADD_AT(a, from) "vaddps " #a "*" SOFIE_PACK_BYTES from ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_DENSE_STORE(a) SOFIE_DENSE_STORE_AT(a, "(%[sums])")
#define SOFIE_DENSE_ADD(a) SOFIE_DENSE_ADD_AT(a, "(%[sums])")

// `each` of the accumulators.
#define SOFIE_DENSE_FIRSTS(each) each(0) each(3) each(6) each(9) SOFIE_DENSE_LOWER(each(12) each(15) each(18) each(21))
#define SOFIE_DENSE_SECONDS(each) each(1) each(4) each(7) each(10) SOFIE_DENSE_LOWER(each(13) each(16) each(19) each(22))
#define SOFIE_DENSE_THIRDS(each) each(2) each(5) each(8) each(11) SOFIE_DENSE_LOWER(each(14) each(17) each(20) each(23))
#define SOFIE_DENSE_EACH(each) \
   SOFIE_DENSE_FIRSTS(each) SOFIE_DENSE_IF_2(SOFIE_DENSE_SECONDS(each)) SOFIE_DENSE_IF_3(SOFIE_DENSE_THIRDS(each))
// Of 24, the most that tiles for AVX-512 have.
#define SOFIE_DENSE_ALL(each)                                                                                  \
   each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11) each(12)  \
   each(13) each(14) each(15) each(16) each(17) each(18) each(19) each(20) each(21) each(22) each(23)

// The bias of a row, at w, which is added; then that of the next one.
#define SOFIE_DENSE_PLUS(place, a) "vaddps " place "(%[w]), " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_DENSE_BIAS(a, b, c)                                                                              \
   SOFIE_DENSE_PLUS("", a) SOFIE_DENSE_IF_2(SOFIE_DENSE_PLUS(SOFIE_PACK_BYTES, b))                             \
   SOFIE_DENSE_IF_3(SOFIE_DENSE_PLUS("2*" SOFIE_PACK_BYTES, c)) "add %[x0], %[w]\n\t"
#define SOFIE_DENSE_BIASES                                                                                     \
   SOFIE_DENSE_BIAS(0, 1, 2) SOFIE_DENSE_BIAS(3, 4, 5) SOFIE_DENSE_BIAS(6, 7, 8) SOFIE_DENSE_BIAS(9, 10, 11)   \
   SOFIE_DENSE_LOWER("test %[half], %[half]\n\tjnz 11f\n\t"                                                   \
      SOFIE_DENSE_BIAS(12, 13, 14) SOFIE_DENSE_BIAS(15, 16, 17)                                                \
      SOFIE_DENSE_BIAS(18, 19, 20) SOFIE_DENSE_BIAS(21, 22, 23) "11:\n\t")
// max(0, a), which is a where that is NaN or -0.
#define SOFIE_DENSE_RELU(a) "vmaxps " SOFIE_PACK(a) ", " SOFIE_DENSE_X(27) ", " SOFIE_PACK(a) "\n\t"
// `whole` of all packs but the last one, whose columns may exist or not.
#define SOFIE_DENSE_MOVES(whole, some, a, b, c)                                                                \
   ".if %c[packs] == 1\n\t" some("", a) ".else\n\t" whole("", a) ".if %c[packs] == 2\n\t"                      \
   some(SOFIE_PACK_BYTES, b) ".else\n\t" whole(SOFIE_PACK_BYTES, b) some("2*" SOFIE_PACK_BYTES, c) ".endif\n\t.endif\n\t"
// A row of y.
#define SOFIE_DENSE_MOVE(place, a) "vmovups " SOFIE_PACK(a) ", " place "(%[x3])\n\t"
#define SOFIE_DENSE_MOVE_SOME(place, a) SOFIE_PACK_STORE_SOME(SOFIE_PACK(a), place "(%[x3])")
#define SOFIE_DENSE_RESULT(some, a, b, c) \
   SOFIE_DENSE_MOVES(SOFIE_DENSE_MOVE, some, a, b, c) "add %[x0], %[x3]\n\t"
#define SOFIE_DENSE_RESULTS(some)                                                                              \
   SOFIE_DENSE_RESULT(some, 0, 1, 2) SOFIE_DENSE_RESULT(some, 3, 4, 5) SOFIE_DENSE_RESULT(some, 6, 7, 8)       \
   SOFIE_DENSE_RESULT(some, 9, 10, 11)                                                                         \
   SOFIE_DENSE_LOWER("test %[half], %[half]\n\tjnz 7f\n\t"                                                     \
      SOFIE_DENSE_RESULT(some, 12, 13, 14) SOFIE_DENSE_RESULT(some, 15, 16, 17)                                \
      SOFIE_DENSE_RESULT(some, 18, 19, 20) SOFIE_DENSE_RESULT(some, 21, 22, 23))
// clang-format on

/// The pass that a tile is in, and where it began.
struct DensePass {
   Size number = 0;
   const float *x = nullptr, *w = nullptr;
};

/// y[r][j] = sum_k x[r][k] * w[k][j] for at least 4 rows, or, if there is no y, sums of one tile of them.
/// Steps and strides are in bytes. A row is added up in passes, each from where the one before began: x_pass and w_pass
/// further. Where there is a bias comes max(0, y + bias) or y + bias.
struct DenseTiles {
   const float *x;
   float *y;
   Size rows;
   Size x_stride, x_step;
   const float *w;
   Size w_step;
   Size y_stride;
   const float *bias;
   Size bias_stride = 0;       // Of rows that have a bias of their own each.
   std::int32_t mask = 0xffff; // The columns of the last pack that y has.
   std::int32_t relu = 0;
   Size depth = 0;  // How many steps a pass takes,
   Size longer = 0; // but the first few of them one more,
   Size last = 0;   // and the last one these.
   Size passes = 1;
   Size x_pass = 0, w_pass = 0;
   Size halves = 0; // Whether all tiles have 4 rows.
   Size add = 0;    // Whether what is in `sums` comes first.
   float *sums = nullptr;
   DensePass pass = {};
};

/// What `of` says, for `Packs` packs of columns: 8 rows at a time, at the end 4 where that is enough. Of the last rows
/// some may be computed once more, which gives them the same values.
template <int Packs>
SOFIE_KERNEL void dense_tiles(DenseTiles &of)
{
   static_assert(Packs >= 1 && Packs <= 3, "there are registers for 3 packs");
   static_assert(__builtin_offsetof(DenseTiles, x) == 0 && __builtin_offsetof(DensePass, x) == 8 &&
                    __builtin_offsetof(DensePass, w) == 16 &&
                    __builtin_offsetof(DenseTiles, bias_stride) == __builtin_offsetof(DenseTiles, bias) + 8,
                 "the assembler has no operands left for these");
   of.halves = dense_tile_rows == dense_tile_half || of.rows < dense_tile_rows;
   const float *x, *x3, *x6, *w;
   float *sums;
   Size k, half;
   // Three rows of x are reached from each of three pointers, behind the loop free. `half` says whether there are 4
   // rows only. The loops over tiles and passes are here because Cling's code between two tiles costs as much as some
   // steps.
   // clang-format off
   asm volatile(
      // A tile; if there are too few rows left it begins before them.
      "20:\n\t"
      "mov %c[of_rows](%[of]), %[k]\n\t"
      "mov %c[of_halves](%[of]), %[half]\n\t"
      "mov $1, %k[x3]\n\t"
      "cmp $4, %[k]\n\t"
      "cmovle %[x3], %[half]\n\t"
      "mov $8, %k[x6]\n\t"
      "mov $4, %k[x3]\n\t"
      "test %[half], %[half]\n\t"
      "cmovnz %[x3], %[x6]\n\t"
      "sub %[k], %[x6]\n\t"
      "jle 21f\n\t"
      "mov %[x6], %[x3]\n\t"
      "imul %[stride], %[x3]\n\t"
      "sub %[x3], (%[of])\n\t"
      "mov %[x6], %[x3]\n\t"
      "imul 8+%c[of_bias](%[of]), %[x3]\n\t"
      "sub %[x3], %c[of_bias](%[of])\n\t"
      "imul %c[of_y_stride](%[of]), %[x6]\n\t"
      "sub %[x6], %c[of_y](%[of])\n"
      "21:\n\t"
      "mov (%[of]), %[x0]\n\t"
      "mov %c[of_w](%[of]), %[w]\n\t"
      "movq $0, %c[of_pass](%[of])\n"
      // A pass.
      "22:\n\t"
      "mov %[x0], 8+%c[of_pass](%[of])\n\t"
      "mov %[w], 16+%c[of_pass](%[of])\n\t"
      "lea (%[x0],%[stride],2), %[x3]\n\t"
      "add %[stride], %[x3]\n\t"
      "lea (%[x3],%[stride],2), %[x6]\n\t"
      "add %[stride], %[x6]\n\t"
      SOFIE_DENSE_EACH(SOFIE_DENSE_ZERO)
      "mov %c[of_depth](%[of]), %[k]\n\t"
      "mov %c[of_longer](%[of]), %[sums]\n\t"
      "cmp %[sums], %c[of_pass](%[of])\n\t"
      "jge 23f\n\t"
      "inc %[k]\n"
      "23:\n\t"
      "mov %c[of_passes](%[of]), %[sums]\n\t"
      "dec %[sums]\n\t"
      "cmp %c[of_pass](%[of]), %[sums]\n\t"
      "cmove %c[of_last](%[of]), %[k]\n\t"
      "test %[k], %[k]\n\t"
      "jle 2f\n\t"
      SOFIE_DENSE_STEPS
      "mov %c[of_sums](%[of]), %[sums]\n\t"
      "mov %c[of_add](%[of]), %[k]\n\t"
      "or %c[of_pass](%[of]), %[k]\n\t"
      "jz 3f\n\t"
      SOFIE_DENSE_EACH(SOFIE_DENSE_ADD)
      "3:\n\t"
      "mov %c[of_pass](%[of]), %[k]\n\t"
      "inc %[k]\n\t"
      "cmp %c[of_passes](%[of]), %[k]\n\t"
      "jge 4f\n\t"
      SOFIE_DENSE_EACH(SOFIE_DENSE_STORE)
      "mov %[k], %c[of_pass](%[of])\n\t"
      "mov 8+%c[of_pass](%[of]), %[x0]\n\t"
      "add %c[of_x_pass](%[of]), %[x0]\n\t"
      "mov 16+%c[of_pass](%[of]), %[w]\n\t"
      "add %c[of_w_pass](%[of]), %[w]\n\t"
      "jmp 22b\n"
      "4:\n\t"
      "mov %c[of_y](%[of]), %[x3]\n\t"
      "test %[x3], %[x3]\n\t"
      "jnz 5f\n\t"
      SOFIE_DENSE_EACH(SOFIE_DENSE_STORE)
      "jmp 8f\n"
      "5:\n\t"
      "mov %c[of_bias](%[of]), %[w]\n\t"
      "test %[w], %[w]\n\t"
      "jz 6f\n\t"
      "mov 8+%c[of_bias](%[of]), %[x0]\n\t"
      SOFIE_DENSE_BIASES
      "mov %[w], %c[of_bias](%[of])\n\t"
      "cmpl $0, %c[of_relu](%[of])\n\t"
      "je 6f\n\t"
      SOFIE_DENSE_ZERO_OF(SOFIE_DENSE_X(27))
      SOFIE_DENSE_EACH(SOFIE_DENSE_RELU)
      "6:\n\t"
      "mov %c[of_y_stride](%[of]), %[x0]\n\t"
      SOFIE_DENSE_WHOLE_OR_SOME("%c[of_mask](%[of])", SOFIE_DENSE_RESULTS(SOFIE_DENSE_MOVE),
                                SOFIE_DENSE_RESULTS(SOFIE_DENSE_MOVE_SOME))
      "7:\n\t"
      "mov %[x3], %c[of_y](%[of])\n\t"
      "lea (,%[stride],4), %[x6]\n\t"
      "mov $4, %k[k]\n\t"
      "test %[half], %[half]\n\t"
      "jnz 10f\n\t"
      "add %[x6], %[x6]\n\t"
      "add %[k], %[k]\n"
      "10:\n\t"
      "add %[x6], (%[of])\n\t"
      "sub %[k], %c[of_rows](%[of])\n\t"
      "jg 20b\n"
      "8:\n\t"
      : [w] "=&r"(w), [x0] "=&r"(x), [x3] "=&r"(x3), [x6] "=&r"(x6), [k] "=&r"(k), [sums] "=&r"(sums), [half] "=&r"(half)
      : [of] "r"(&of), [stride] "r"(of.x_stride), [step] "r"(of.x_step), [next] "r"(of.w_step),
        SOFIE_MEMBERS(of, DenseTiles, y, rows, w, y_stride, bias, mask, relu, depth, longer, last, passes, x_pass,
           w_pass, halves, add, sums, pass),
        [packs] "i"(Packs)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}

/// What becomes of the sums of a tile: they go to `sums`, or with the bias to y, if there is one.
struct DenseTileEnd {
   float *sums;
   float *y;
   Size y_stride; // In bytes.
   const float *bias;
   Size mask;        // The columns of the last pack that y has.
   std::int32_t add; // Whether what is in `sums` comes first.
   std::int32_t relu;
};

/// y[r][j] = sum_k x[r][k] * w[k][j] for so many rows, all of it in one pass.
SOFIE_INLINE DenseTiles dense_tiles_of(StridedRows<const float> x, StridedRows<const float> w, Size depth,
                                       StridedRows<float> y, Size rows)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   DenseTiles of{x.data,           y.data,           rows,   x.stride * bytes, x.step * bytes, w.data,
                 w.stride * bytes, y.stride * bytes, nullptr};
   of.last = depth;
   return of;
}

/// sum_k x[r * x_stride + k * x_step] * w[k * w_stride + j] for a whole tile with `Packs` packs of columns.
template <int Packs>
SOFIE_INLINE void dense_tile_assembler(const float *x, Size x_stride, Size x_step, const float *w, Size w_stride,
                                       Size depth, const DenseTileEnd &end)
{
   DenseTiles of = dense_tiles_of({x, x_stride, x_step}, {w, w_stride}, depth, {end.y, 0}, dense_tile_rows);
   of.y_stride = end.y_stride;
   of.bias = end.bias;
   of.mask = static_cast<std::int32_t>(end.mask);
   of.relu = end.relu;
   of.add = end.add;
   of.sums = end.sums;
   dense_tiles<Packs>(of);
}

// One row ------------------------------------------------------------------------------------------

// clang-format off
// A text for each of the first so many registers, or those from one on, written by the assembler: written by macros for
// each number of packs, they would take longer to read than all other code of such a layer.
#define SOFIE_ROW_EACH(count, text) ".irp a,0,1,2,3,4,5,6,7,8,9,10,11,12,13\n\t.if \\a < " count "\n\t" text ".endif\n\t.endr\n\t"
#define SOFIE_ROW_PACK SOFIE_PACK_KIND "\\a"
#define SOFIE_ROW_PLACE "\\a*" SOFIE_PACK_BYTES
#define SOFIE_ROW_FROM(first, text) ".if \\a >= " first "\n\t" text ".endif\n\t"
// A step for the sums from register `first` on, which goes on to the next number and row.
#define SOFIE_ROW_STEP(first)                                                                                         \
   "vbroadcastss (%[x]), " SOFIE_DENSE_X(31) "\n\t"                                                                   \
   SOFIE_ROW_EACH(first "+%c[packs]", SOFIE_ROW_FROM(first, "vfmadd231ps (\\a-" first ")*" SOFIE_PACK_BYTES "(%[w]), " \
                                                            SOFIE_DENSE_X(31) ", " SOFIE_ROW_PACK "\n\t"))            \
   "add %[next], %[w]\n\tadd %[step], %[x]\n\t"
// In a round the code of each step is the same, begins at multiples of 2^align bytes, and crosses no page. Zen 5 has a
// prefetcher that learns how far an instruction's addresses are apart. In a round of 2 kB or more, or one that goes
// backwards, that costs a third of the rate of the second cache. It takes the same instructions of all steps that are
// so aligned for one, and learns nothing; then both directions read as fast as is possible.
#define SOFIE_ROW_ALIGNED(first) ".p2align %c[align]\n\t" SOFIE_ROW_STEP(first)
// The sums from register `first` on join the first ones; only up to five packs have a second chain.
#define SOFIE_ROW_JOIN(first)                                                                                      \
   ".irp b,0,1,2,3,4\n\t.if \\b < %c[packs]\n\t.irp a,2,3,4,5,6,7,8,9\n\t.if \\a == \\b+" first                    \
   "\n\tvaddps " SOFIE_ROW_PACK ", " SOFIE_PACK_KIND "\\b, " SOFIE_PACK_KIND "\\b\n\t.endif\n\t.endr\n\t.endif\n\t.endr\n\t"
#define SOFIE_ROW_ZERO(count) SOFIE_ROW_EACH(count, SOFIE_DENSE_ZERO_OF(SOFIE_ROW_PACK))
#define SOFIE_ROW_STORE(count) SOFIE_ROW_EACH(count, "vmovups " SOFIE_ROW_PACK ", " SOFIE_ROW_PLACE "(%[x])\n\t")
#define SOFIE_ROW_LAST(text) SOFIE_ROW_EACH("%c[packs]", SOFIE_ROW_FROM("%c[packs]-1", text))
// The end of a row whose sums are complete, as `end` says. The last pack is stored with a mask.
#define SOFIE_ROW_END                                                                                              \
   "mov %c[end_bias](%[end]), %[w]\n\t"                                                                            \
   SOFIE_ROW_EACH("%c[packs]", "vaddps " SOFIE_ROW_PLACE "(%[w]), " SOFIE_ROW_PACK ", " SOFIE_ROW_PACK "\n\t")     \
   "cmpl $0, %c[end_relu](%[end])\n\t"                                                                             \
   "je 5f\n\t"                                                                                                     \
   SOFIE_DENSE_ZERO_OF(SOFIE_DENSE_X(27))                                                                          \
   SOFIE_ROW_EACH("%c[packs]", "vmaxps " SOFIE_ROW_PACK ", " SOFIE_DENSE_X(27) ", " SOFIE_ROW_PACK "\n\t")         \
   "5:\n\t"                                                                                                        \
   SOFIE_DENSE_WHOLE_OR_SOME("%c[end_mask](%[end])", SOFIE_ROW_STORE("%c[packs]"),                                 \
                             SOFIE_ROW_STORE("%c[packs]-1")                                                        \
                             SOFIE_ROW_LAST(SOFIE_PACK_STORE_SOME(SOFIE_ROW_PACK, SOFIE_ROW_PLACE "(%[x])")))
// clang-format on

/// y[j] = sum_k x[k] * w[k][j] for `Packs` packs of columns, in the chains of `DenseShape`, from the first k on or from
/// the last one back. A register for each pack, and where that takes too few of them, another chain of sums for the
/// next k: four steps, each with its sums, then the sums are joined.
template <int Packs>
SOFIE_KERNEL void dense_row_assembler(const float *x, const float *w, Size depth, const DenseTileEnd &end,
                                      bool backwards = false)
{
   static_assert(Packs >= 2 && Packs <= 14, "there are registers for 14 packs; one has 8 chains");
   constexpr int chains = Packs == 2 ? 4 : Packs <= 5 ? 2 : 1, align = Packs <= 7 ? 6 : 7;
   // Without a branch: Cling would keep everything in memory across it.
   const Size rest = depth & 3, back = -static_cast<Size>(backwards), ahead = 1 + 2 * back;
   const Size step = 4 * ahead, next = Packs * SOFIE_SIMD_BYTES * ahead, last = (depth - 1) & back;
   Size rounds = depth >> 2;
   x += last;
   w += last * lanes<float> * Packs;
   // clang-format off
   asm volatile(
      SOFIE_ROW_ZERO("%c[registers]")
      "test %[k], %[k]\n\t"
      "jle 2f\n\t"
      "jmp 1f\n\t"
      ".p2align 9\n"
      "1:\n\t"
      SOFIE_ROW_ALIGNED("0") SOFIE_ROW_ALIGNED("%c[second]") SOFIE_ROW_ALIGNED("%c[third]") SOFIE_ROW_ALIGNED("%c[fourth]")
      "dec %[k]\n\t"
      "jnz 1b\n"
      "2:\n\t"
      "cmp $1, %[rest]\n\t"
      "jl 3f\n\t"
      SOFIE_ROW_STEP("0")
      "cmp $2, %[rest]\n\t"
      "jl 3f\n\t"
      SOFIE_ROW_STEP("%c[second]")
      "cmp $3, %[rest]\n\t"
      "jl 3f\n\t"
      SOFIE_ROW_STEP("%c[third]")
      "3:\n\t"
      ".if %c[chains] > 1\n\t" SOFIE_ROW_JOIN("%c[packs]") ".endif\n\t"
      ".if %c[chains] > 2\n\t" SOFIE_ROW_JOIN("2*%c[packs]") SOFIE_ROW_JOIN("3*%c[packs]") ".endif\n\t"
      "mov %c[end_y](%[end]), %[x]\n\t"
      "test %[x], %[x]\n\t"
      "jnz 4f\n\t"
      "mov %c[end_sums](%[end]), %[x]\n\t"
      SOFIE_ROW_STORE("%c[packs]")
      "jmp 6f\n"
      "4:\n\t"
      SOFIE_ROW_END
      "6:\n\t"
      : [x] "+&r"(x), [w] "+&r"(w), [k] "+&r"(rounds)
      : [rest] "r"(rest), [end] "r"(&end),
        SOFIE_MEMBERS(end, DenseTileEnd, sums, y, bias, mask, relu),
        [step] "r"(step), [next] "r"(next), [packs] "i"(Packs), [chains] "i"(chains),
        [registers] "i"(chains * Packs), [second] "i"(1 % chains * Packs), [third] "i"(2 % chains * Packs),
        [fourth] "i"(3 % chains * Packs), [align] "i"(align)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}

} // namespace sofie

SOFIE_END

#endif

#endif
