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
#define SOFIE_DENSE_W3 "%%zmm27"
#define SOFIE_DENSE_X(number) "%%zmm" #number
#define SOFIE_DENSE_AHEAD                                                                                      \
   SOFIE_DENSE_IF_4("test %[far], %[far]\n\tjz 10f\n\tprefetcht0 8192(%[w])\n\tprefetcht0 8256(%[w])\n\t"         \
                    "prefetcht0 8320(%[w])\n\tprefetcht0 8384(%[w])\n10:\n\t")
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
#define SOFIE_DENSE_W3 ""
#define SOFIE_DENSE_X(number) "%%ymm15"
#define SOFIE_DENSE_AHEAD \
   SOFIE_DENSE_IF_3("test %[far], %[far]\n\tjz 10f\n\tprefetcht0 3072(%[w])\n\tprefetcht0 3136(%[w])\n10:\n\t")
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

/// How many rows of x a tile has at most, and from how many on tiles pay; how many packs of columns it has at most, and
/// how many rows where they are 4; and how many numbers the sums of a row are, of up to 3 packs.
inline constexpr int dense_tile_rows = SOFIE_SIMD_BYTES == 64 ? 8 : 4, dense_tile_half = 4;
inline constexpr int dense_tile_packs = SOFIE_SIMD_BYTES == 64 ? 4 : 3, dense_wide_rows = 6;
inline constexpr int dense_tile_width = 3 * lanes<float>;

// clang-format off
// The assembler leaves out what is for a second, third and fourth pack where there is none. (A text for each number of
// packs takes three times as long to read.)
#define SOFIE_DENSE_IF_2(text) ".if %c[packs] > 1\n\t" text ".endif\n\t"
#define SOFIE_DENSE_IF_3(text) ".if %c[packs] > 2\n\t" text ".endif\n\t"
#define SOFIE_DENSE_IF_4(text) ".if %c[packs] > 3\n\t" text ".endif\n\t"

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

// `row` of as many rows as a tile has, at least 2: the place of its number of x and a register for that, which are
// reached from x0, x3 and x6, and its accumulators. Of four packs there are up to 6 rows: the fourth has the registers of
// two more.
#define SOFIE_DENSE_FROM(number, out) "cmp $" #number ", %[rows]\n\tjl " out "f\n\t"
#define SOFIE_DENSE_ROWS(row, out)                                                                             \
   row("(%[x0])", 28, 0, 1, 2, 18)                                                                             \
   row("(%[x0],%[stride])", 29, 3, 4, 5, 19)                                                                   \
   SOFIE_DENSE_FROM(3, out) row("(%[x0],%[stride],2)", 30, 6, 7, 8, 20)                                        \
   SOFIE_DENSE_FROM(4, out) row("(%[x3])", 31, 9, 10, 11, 21)                                                  \
   SOFIE_DENSE_LOWER(                                                                                          \
      SOFIE_DENSE_FROM(5, out) row("(%[x3],%[stride])", 28, 12, 13, 14, 22)                                    \
      SOFIE_DENSE_FROM(6, out) row("(%[x3],%[stride],2)", 29, 15, 16, 17, 23)                                  \
      ".if %c[packs] < 4\n\t"                                                                                  \
      SOFIE_DENSE_FROM(7, out) row("(%[x6])", 30, 18, 19, 20, 0)                                               \
      SOFIE_DENSE_FROM(8, out) row("(%[x6],%[stride])", 31, 21, 22, 23, 0)                                     \
      ".endif\n\t")                                                                                            \
   out ":\n\t"
#define SOFIE_DENSE_PRODUCTS(x, number, a, b, c, d)                                                            \
   SOFIE_DENSE_ROW(x, number, a, b, c)                                                                         \
   SOFIE_DENSE_IF_4("vfmadd231ps " SOFIE_DENSE_W3 ", " SOFIE_DENSE_X(number) ", " SOFIE_PACK(d) "\n\t")

#define SOFIE_DENSE_ZERO_OF(pack) SOFIE_PACK_ZERO " " pack ", " pack ", " pack "\n\t"
#define SOFIE_DENSE_ZERO(a) SOFIE_DENSE_ZERO_OF(SOFIE_PACK(a))
// The place of an accumulator: rows of sums have three packs.
#define SOFIE_DENSE_STORE_AT(a, from) "vmovups " SOFIE_PACK(a) ", " #a "*" SOFIE_PACK_BYTES from "\n\t"
#define SOFIE_DENSE_ADD_AT(a, from) "vaddps " #a "*" SOFIE_PACK_BYTES from ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_DENSE_STORE(a) SOFIE_DENSE_STORE_AT(a, "(%[x6])")
#define SOFIE_DENSE_ADD(a) SOFIE_DENSE_ADD_AT(a, "(%[x6])")

// `each` of the accumulators.
#define SOFIE_DENSE_FIRSTS(each) each(0) each(3) each(6) each(9) SOFIE_DENSE_LOWER(each(12) each(15) each(18) each(21))
#define SOFIE_DENSE_SECONDS(each) each(1) each(4) each(7) each(10) SOFIE_DENSE_LOWER(each(13) each(16) each(19) each(22))
#define SOFIE_DENSE_THIRDS(each) each(2) each(5) each(8) each(11) SOFIE_DENSE_LOWER(each(14) each(17) each(20) each(23))
#define SOFIE_DENSE_EACH(each) \
   SOFIE_DENSE_FIRSTS(each) SOFIE_DENSE_IF_2(SOFIE_DENSE_SECONDS(each)) SOFIE_DENSE_IF_3(SOFIE_DENSE_THIRDS(each))

// The bias of a row, at w, which is added; then that of the next one.
#define SOFIE_DENSE_PLUS(place, a) "vaddps " place "(%[w]), " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_DENSE_BIAS(x, number, a, b, c, d)                                                                \
   SOFIE_DENSE_PLUS("", a) SOFIE_DENSE_IF_2(SOFIE_DENSE_PLUS(SOFIE_PACK_BYTES, b))                             \
   SOFIE_DENSE_IF_3(SOFIE_DENSE_PLUS("2*" SOFIE_PACK_BYTES, c))                                                \
   SOFIE_DENSE_IF_4(SOFIE_DENSE_PLUS("3*" SOFIE_PACK_BYTES, d)) "add %[x0], %[w]\n\t"
#define SOFIE_DENSE_ONE_BIAS(x, number, a, b, c, d)                                                            \
   SOFIE_DENSE_PLUS_ONE(a) SOFIE_DENSE_PLUS_ONE(b) "add %[x0], %[w]\n\t"
#define SOFIE_DENSE_PLUS_ONE(a) "vaddps (%[w])%{1to16%}, " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
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
#define SOFIE_DENSE_RESULT_OF(some, a, b, c, d)                                                                \
   ".if %c[packs] > 3\n\t" SOFIE_DENSE_MOVE("", a) SOFIE_DENSE_MOVE(SOFIE_PACK_BYTES, b)                       \
   SOFIE_DENSE_MOVE("2*" SOFIE_PACK_BYTES, c) some("3*" SOFIE_PACK_BYTES, d) "add %[x0], %[x3]\n\t"           \
   ".else\n\t" SOFIE_DENSE_RESULT(some, a, b, c) ".endif\n\t"
#define SOFIE_DENSE_RESULT_WHOLE(x, number, a, b, c, d) SOFIE_DENSE_RESULT_OF(SOFIE_DENSE_MOVE, a, b, c, d)
#define SOFIE_DENSE_RESULT_SOME(x, number, a, b, c, d) SOFIE_DENSE_RESULT_OF(SOFIE_DENSE_MOVE_SOME, a, b, c, d)
// clang-format on

/// y[r][j] = sum_k x[r][k] * w[k][j] for all rows. Steps and strides are in bytes. A row is added up in passes,
/// each `x_pass` and `w_pass` further than the one before; what is summed so far is kept in `sums`. Where there is a
/// bias comes max(0, y + bias) or y + bias.
struct DenseTiles {
   const float *x;
   float *y;
   Size rows;
   Size x_stride, x_step;
   const float *w;
   Size w_step;
   Size y_stride;
   const float *bias = nullptr;
   Size bias_stride = 0;       // Of rows that have a bias of their own each.
   std::int32_t one_bias = 0;  // Whether that is one number, for two packs with AVX-512 only.
   std::int32_t mask = 0xffff; // The columns of the last pack that y has.
   std::int32_t relu = 0;
   Size depth = 0;  // How many steps a pass takes,
   Size longer = 0; // but the first few of them one more,
   Size last = 0;   // and the last one these.
   Size passes = 1;
   Size x_pass = 0, w_pass = 0;
   float *sums = nullptr;
   Size far = 0;   // Whether w comes from the third cache or memory, as the most packs of a tile may.
   Size tiles = 0; // That are left.
};

/// What `of` says, for `Packs` packs of columns and so many tiles of so many rows, below each other.
template <int Packs>
SOFIE_KERNEL void dense_tiles(DenseTiles &of, Size tiles, Size rows)
{
   static_assert(Packs >= 1 && Packs <= dense_tile_packs, "there are registers for so many packs");
   of.tiles = tiles;
   const float *x, *x3, *x6, *w;
   Size k, pass;
   // Three rows of x are reached from each of three pointers, behind the loop free. The loops over tiles and passes are
   // here because Cling's code between two tiles costs as much as some steps.
   // clang-format off
   asm volatile(
      // A tile, and a pass of it: its number is in k first, then how many steps are left.
      "20:\n\t"
      "xor %k[k], %k[k]\n"
      "22:\n\t"
      "mov %[k], %[pass]\n\t"
      "mov %c[of_depth](%[of]), %[k]\n\t"
      "cmp %c[of_longer](%[of]), %[pass]\n\t"
      "jge 23f\n\t"
      "inc %[k]\n"
      "23:\n\t"
      "lea 1(%[pass]), %[x0]\n\t"
      "cmp %c[of_passes](%[of]), %[x0]\n\t"
      "cmove %c[of_last](%[of]), %[k]\n\t"
      "mov %c[of_w_pass](%[of]), %[w]\n\t"
      "mov %c[of_x_pass](%[of]), %[x0]\n\t"
      "imul %[pass], %[w]\n\t"
      "imul %[pass], %[x0]\n\t"
      "add %c[of_w](%[of]), %[w]\n\t"
      "add %c[of_x](%[of]), %[x0]\n\t"
      "test %[pass], %[pass]\n\t"
      "jz 24f\n\t"
      "mov %c[of_sums](%[of]), %[x6]\n\t"
      SOFIE_DENSE_EACH(SOFIE_DENSE_STORE)
      "24:\n\t"
      "lea (%[x0],%[stride],2), %[x3]\n\t"
      "add %[stride], %[x3]\n\t"
      "lea (%[x3],%[stride],2), %[x6]\n\t"
      "add %[stride], %[x6]\n\t"
      SOFIE_DENSE_EACH(SOFIE_DENSE_ZERO)
      "test %[k], %[k]\n\t"
      "jle 2f\n\t"
      ".p2align 5\n"
      "1:\n\t"
      SOFIE_DENSE_LOAD
      SOFIE_DENSE_IF_4("vmovups 3*" SOFIE_PACK_BYTES "(%[w]), " SOFIE_DENSE_W3 "\n\t")
      SOFIE_DENSE_AHEAD
      SOFIE_DENSE_ROWS(SOFIE_DENSE_PRODUCTS, "9")
      "add %[step], %[x0]\n\t"
      "add %[step], %[x3]\n\t"
      SOFIE_DENSE_LOWER("add %[step], %[x6]\n\t")
      "add %[next], %[w]\n\t"
      "dec %[k]\n\t"
      "jnz 1b\n"
      "2:\n\t"
      "test %[pass], %[pass]\n\t"
      "jz 3f\n\t"
      "mov %c[of_sums](%[of]), %[x6]\n\t"
      SOFIE_DENSE_EACH(SOFIE_DENSE_ADD)
      "3:\n\t"
      "lea 1(%[pass]), %[k]\n\t"
      "cmp %c[of_passes](%[of]), %[k]\n\t"
      "jl 22b\n\t"
      "mov %c[of_bias](%[of]), %[w]\n\t"
      "test %[w], %[w]\n\t"
      "jz 6f\n\t"
      "mov %c[of_bias_stride](%[of]), %[x0]\n\t"
      SOFIE_DENSE_LOWER(
         ".if %c[packs] == 2\n\t"
         "cmpl $0, %c[of_one_bias](%[of])\n\t"
         "je 12f\n\t"
         SOFIE_DENSE_ROWS(SOFIE_DENSE_ONE_BIAS, "13")
         "jmp 14f\n"
         "12:\n\t.endif\n\t")
      SOFIE_DENSE_ROWS(SOFIE_DENSE_BIAS, "11")
      "14:\n\t"
      "mov %[w], %c[of_bias](%[of])\n\t"
      "cmpl $0, %c[of_relu](%[of])\n\t"
      "je 6f\n\t"
      SOFIE_DENSE_ZERO_OF(SOFIE_DENSE_X(27))
      SOFIE_DENSE_EACH(SOFIE_DENSE_RELU)
      "6:\n\t"
      "mov %c[of_y](%[of]), %[x3]\n\t"
      "mov %c[of_y_stride](%[of]), %[x0]\n\t"
      SOFIE_DENSE_WHOLE_OR_SOME("%c[of_mask](%[of])", SOFIE_DENSE_ROWS(SOFIE_DENSE_RESULT_WHOLE, "7"),
                                SOFIE_DENSE_ROWS(SOFIE_DENSE_RESULT_SOME, "7"))
      "mov %[x3], %c[of_y](%[of])\n\t"
      "mov %[rows], %[k]\n\t"
      "imul %[stride], %[k]\n\t"
      "add %[k], %c[of_x](%[of])\n\t"
      "decq %c[of_tiles](%[of])\n\t"
      "jnz 20b\n\t"
      : [w] "=&r"(w), [x0] "=&r"(x), [x3] "=&r"(x3), [x6] "=&r"(x6), [k] "=&r"(k), [pass] "=&r"(pass)
      : [of] "r"(&of), [rows] "r"(rows), [stride] "r"(of.x_stride), [step] "r"(of.x_step), [next] "r"(of.w_step),
        [far] "r"(of.far),
        SOFIE_MEMBERS(of, DenseTiles, x, y, w, y_stride, bias, bias_stride, one_bias, mask, relu, depth, longer, last, passes,
           x_pass, w_pass, sums, tiles),
        [packs] "i"(Packs)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}

/// The same for all rows, in tiles of nearly one size; one row twice.
template <int Packs>
SOFIE_KERNEL void dense_tiles(DenseTiles &of)
{
   if (of.rows == 1) {
      of.x_stride = of.y_stride = of.bias_stride = 0;
      of.rows = 2;
   }
   constexpr unsigned most = Packs > 3 ? dense_wide_rows : dense_tile_rows;
   const auto all = static_cast<unsigned>(of.rows);
   if (all == 0)
      return;
   if (all <= most)
      return dense_tiles<Packs>(of, 1, of.rows); // A division takes as long as some steps.
   const unsigned tiles = (all + most - 1) / most, rows = all / tiles, longer = all % tiles;
   if (longer > 0)
      dense_tiles<Packs>(of, longer, rows + 1);
   dense_tiles<Packs>(of, tiles - longer, rows);
}

/// y[r][j] = sum_k x[r][k] * w[k][j] for so many rows, all of it in one pass.
SOFIE_INLINE DenseTiles dense_tiles_of(StridedRows<const float> x, StridedRows<const float> w, Size depth,
                                       StridedRows<float> y, Size rows)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   DenseTiles of{x.data, y.data, rows, x.stride * bytes, x.step * bytes, w.data, w.stride * bytes, y.stride * bytes};
   of.last = depth;
   return of;
}

// One row ------------------------------------------------------------------------------------------

/// What becomes of the sums of a row: they go to y with their bias, or max(0, that).
struct DenseRowEnd {
   float *y;
   const float *bias;
   Size mask; // The columns of the last pack that y has.
   std::int32_t relu;
};

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
// One of the steps that are left, if there is one.
#define SOFIE_ROW_REST(first) "dec %[k]\n\tjl 3f\n\t" SOFIE_ROW_STEP(first)
// The sums from register `first` on join the first ones; only up to five packs have a second chain.
#define SOFIE_ROW_JOIN(first)                                                                                      \
   ".irp b,0,1,2,3,4\n\t.if \\b < %c[packs]\n\t.irp a,1,2,3,4,5,6,7,8,9\n\t.if \\a == \\b+" first                  \
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

/// y[j] = sum_k x[k] * w[k][j] for `Packs` packs of columns, in the chains of `DenseShape`, from the first k on or, if
/// it goes `BothWays`, perhaps from the last one back. A register for each pack, and where that takes too few of them,
/// another chain of sums for the next k: four steps or, of a single pack, eight, each with its sums, which are joined.
template <int Packs, bool BothWays = false>
SOFIE_KERNEL void dense_row_assembler(const float *x, const float *w, Size depth, const DenseRowEnd &end,
                                      bool backwards = false)
{
   static_assert(Packs <= 14, "there are registers for 14 packs");
   constexpr int chains = Packs == 1 ? 8 : Packs == 2 ? 4 : Packs <= 5 ? 2 : 1, steps = Packs == 1 ? 8 : 4;
   constexpr int align = Packs == 1 ? 5 : Packs <= 7 ? 6 : 7;
   Size step = 4, next = Packs * SOFIE_SIMD_BYTES; // Constants where there is one way.
   if constexpr (BothWays) {                       // Without a branch: Cling would keep everything in memory across it.
      const Size back = -static_cast<Size>(backwards), ahead = 1 + 2 * back, last = (depth - 1) & back;
      step *= ahead;
      next *= ahead;
      x += last;
      w += last * lanes<float> * Packs;
   }
   // clang-format off
   asm volatile(
      SOFIE_ROW_ZERO("%c[registers]")
      "sub %[steps], %[k]\n\t"
      "jl 2f\n\t"
      "jmp 1f\n\t"
      ".p2align 9\n"
      "1:\n\t"
      SOFIE_ROW_ALIGNED("0") SOFIE_ROW_ALIGNED("%c[second]") SOFIE_ROW_ALIGNED("%c[third]") SOFIE_ROW_ALIGNED("%c[fourth]")
      ".if %c[chains] > 4\n\t"
      SOFIE_ROW_ALIGNED("4") SOFIE_ROW_ALIGNED("5") SOFIE_ROW_ALIGNED("6") SOFIE_ROW_ALIGNED("7")
      ".endif\n\t"
      "sub %[steps], %[k]\n\t"
      "jge 1b\n"
      "2:\n\t"
      "add %[steps], %[k]\n\t"
      SOFIE_ROW_REST("0") SOFIE_ROW_REST("%c[second]") SOFIE_ROW_REST("%c[third]")
      ".if %c[chains] > 4\n\t"
      SOFIE_ROW_REST("3") SOFIE_ROW_REST("4") SOFIE_ROW_REST("5") SOFIE_ROW_REST("6")
      ".endif\n"
      "3:\n\t"
      ".if %c[chains] > 1\n\t" SOFIE_ROW_JOIN("%c[packs]") ".endif\n\t"
      ".if %c[chains] > 2\n\t" SOFIE_ROW_JOIN("2*%c[packs]") SOFIE_ROW_JOIN("3*%c[packs]") ".endif\n\t"
      ".if %c[chains] > 4\n\t"
      SOFIE_ROW_JOIN("4") SOFIE_ROW_JOIN("5") SOFIE_ROW_JOIN("6") SOFIE_ROW_JOIN("7")
      ".endif\n\t"
      "mov %c[end_y](%[end]), %[x]\n\t"
      SOFIE_ROW_END
      : [x] "+&r"(x), [w] "+&r"(w), [k] "+&r"(depth)
      : [end] "r"(&end),
        SOFIE_MEMBERS(end, DenseRowEnd, y, bias, mask, relu),
        [step] "ri"(step), [next] "ri"(next), [packs] "i"(Packs), [chains] "i"(chains), [steps] "i"(steps),
        [registers] "i"(chains * Packs), [second] "i"(1 % chains * Packs), [third] "i"(2 % chains * Packs),
        [fourth] "i"(3 % chains * Packs), [align] "i"(align)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}

} // namespace sofie

SOFIE_END

#endif

#endif
