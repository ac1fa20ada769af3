/// \file
/// The tile of several rows by 4 packs of columns: 2 to 6 rows, so that whatever number of rows there is goes through
/// it without rest.
///
/// It loads ten numbers or packs for 24 multiplications, less than any other that has registers. What a single row
/// adds up in several chains is added up here in as many passes: the same sums in the same order.
#ifndef SOFIE_KERNELS_DENSE_ROWS_TILE_HXX
#define SOFIE_KERNELS_DENSE_ROWS_TILE_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense/tile.hxx"

#ifdef SOFIE_AVX512_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// How many packs of columns such a tile has, and how many rows at most and at least.
inline constexpr int dense_quads_packs = 4, dense_quads_rows = 6, dense_quads_least = 2;

// clang-format off
// The packs of w are in zmm24 to zmm27; `number` is the register of the row's x.
#define SOFIE_QUADS_LOAD                                                                  \
   "vmovups (%[w]), %%zmm24\n\tvmovups 64(%[w]), %%zmm25\n\t"                             \
   "vmovups 128(%[w]), %%zmm26\n\tvmovups 192(%[w]), %%zmm27\n\t"
#define SOFIE_QUADS_ROW(x, number, a, b, c, d)                                            \
   "vbroadcastss " x ", %%zmm" #number "\n\t"                                             \
   "vfmadd231ps %%zmm24, %%zmm" #number ", %%zmm" #a "\n\t"                               \
   "vfmadd231ps %%zmm25, %%zmm" #number ", %%zmm" #b "\n\t"                               \
   "vfmadd231ps %%zmm26, %%zmm" #number ", %%zmm" #c "\n\t"                               \
   "vfmadd231ps %%zmm27, %%zmm" #number ", %%zmm" #d "\n\t"
// Registers below 16 have a way to be zero that takes no multiplier's time.
#define SOFIE_QUADS_ZERO(a) "vpxor %%xmm" #a ", %%xmm" #a ", %%xmm" #a "\n\t"
#define SOFIE_QUADS_ZEROS                                                                 \
   SOFIE_QUADS_ZERO(0) SOFIE_QUADS_ZERO(1) SOFIE_QUADS_ZERO(2) SOFIE_QUADS_ZERO(3) SOFIE_QUADS_ZERO(4)           \
   SOFIE_QUADS_ZERO(5) SOFIE_QUADS_ZERO(6) SOFIE_QUADS_ZERO(7) SOFIE_QUADS_ZERO(8) SOFIE_QUADS_ZERO(9)           \
   SOFIE_QUADS_ZERO(10) SOFIE_QUADS_ZERO(11) SOFIE_QUADS_ZERO(12) SOFIE_QUADS_ZERO(13) SOFIE_QUADS_ZERO(14)      \
   SOFIE_QUADS_ZERO(15) SOFIE_DENSE_ZERO(16) SOFIE_DENSE_ZERO(17) SOFIE_DENSE_ZERO(18)                  \
   SOFIE_DENSE_ZERO(19) SOFIE_DENSE_ZERO(20) SOFIE_DENSE_ZERO(21) SOFIE_DENSE_ZERO(22)               \
   SOFIE_DENSE_ZERO(23)
#define SOFIE_QUADS_STORE(a) "vmovups %%zmm" #a ", " #a "*64(%[sums])\n\t"
#define SOFIE_QUADS_ADD(a) "vaddps " #a "*64(%[sums]), %%zmm" #a ", %%zmm" #a "\n\t"
// A row of y, whose biases are at w. zmm31 is 0 or, where there is no function, -infinity: max(that, a), which is a where
// that is NaN.
#define SOFIE_QUADS_END(place, a)                                                         \
   "vaddps " place "(%[w]), %%zmm" #a ", %%zmm" #a "\n\tvmaxps %%zmm" #a ", %%zmm31, %%zmm" #a "\n\t"
#define SOFIE_QUADS_RESULT(a, b, c, d)                                                    \
   SOFIE_QUADS_END("", a) SOFIE_QUADS_END("64", b) SOFIE_QUADS_END("128", c) SOFIE_QUADS_END("192", d)           \
   "add %[next], %[w]\n\t"                                                                \
   "vmovups %%zmm" #a ", (%[sums])\n\tvmovups %%zmm" #b ", 64(%[sums])\n\t"               \
   "vmovups %%zmm" #c ", 128(%[sums])\n\tvmovups %%zmm" #d ", 192(%[sums])%{%%k1%}\n\t"   \
   "add %[x0], %[sums]\n\t"

// Where pass number k begins.
#define SOFIE_QUADS_PLACES                                                                \
   "mov %c[of_w_row](%[of]), %[w]\n\t"                                                    \
   "mov %c[of_x_pass](%[of]), %[x0]\n\t"                                                  \
   "imul %[k], %[w]\n\t"                                                                  \
   "imul %[k], %[x0]\n\t"                                                                 \
   "add %c[of_w](%[of]), %[w]\n\t"                                                        \
   "add %c[of_x](%[of]), %[x0]\n\t"                                                       \
   "lea (%[x0],%[stride],2), %[x3]\n\t"                                                   \
   "add %[stride], %[x3]\n\t"

/// Tiles of y = f(x @ w + bias), below each other. Steps and strides are in bytes. Pass p begins x_pass and
/// w_row further than the one before. Rows have one bias, or one of their own each.
struct DenseQuads {
   const float *x;
   float *y;
   Size tiles;
   Size rows; // Of each tile.
   Size x_stride, x_step, x_pass;
   const float *w;
   Size w_row, w_step;
   Size y_stride;
   const float *bias;
   Size bias_stride;
   Size mask;   // The columns of the last pack that y has.
   Size depth;  // How many steps a pass takes,
   Size longer; // but the first few of them one more.
   Size passes;
   float *sums;
   std::int32_t least; // The bits of what f does not go below: 0 or -infinity.
};

/// y[r][j] = bias[r][j] + sum_k x[r][k] * w[k][j], where a row is summed in so many chains. What is summed so far is kept
/// in `sums`.
SOFIE_INLINE DenseQuads dense_quads_of(StridedRows<const float> x, StridedRows<const float> w, Size depth, Size chains,
                                       StridedRows<float> y, StridedRows<const float> bias, float *sums)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   constexpr std::int32_t lowest = -0x800000; // The bits of -infinity.
   return {x.data, y.data, 0, 0, x.stride * bytes, chains * x.step * bytes, x.step * bytes, w.data, w.stride * bytes,
           chains * w.stride * bytes, y.stride * bytes, bias.data, bias.stride * bytes, 0xffff, depth / chains,
           depth % chains, chains, sums, lowest};
}

/// What `of` says: at least one tile.
SOFIE_KERNEL inline void dense_quads_tiles(DenseQuads &of)
{
   const float *x, *x3, *w;
   float *sums;
   Size k, rows, stride, step, next;
   asm volatile(
      "mov %c[of_rows](%[of]), %[rows]\n\t"
      "mov %c[of_x_stride](%[of]), %[stride]\n\t"
      "mov %c[of_x_step](%[of]), %[step]\n\t"
      "kmovw %c[of_mask](%[of]), %%k1\n\t"
      "vbroadcastss %c[of_least](%[of]), %%zmm31\n"
      // A tile; k is the number of the pass.
      "20:\n\t"
      "mov %c[of_w_step](%[of]), %[next]\n\t"
      "xor %k[k], %k[k]\n\t"
      SOFIE_QUADS_PLACES
      "jmp 23f\n"
      // The next pass: where it begins must be known early.
      "22:\n\t"
      SOFIE_QUADS_PLACES
      SOFIE_DENSE_ALL(SOFIE_QUADS_STORE)
      // While it goes on, its number is in `sums`, and k is how many steps are left.
      "23:\n\t"
      "mov %[k], %[sums]\n\t"
      "mov %c[of_depth](%[of]), %[k]\n\t"
      SOFIE_QUADS_ZEROS
      "cmp %c[of_longer](%[of]), %[sums]\n\t"
      "jge 24f\n\t"
      "inc %[k]\n"
      "24:\n\t"
      "test %[k], %[k]\n\t"
      "jle 2f\n\t"
      ".p2align 5\n"
      "1:\n\t"
      SOFIE_QUADS_LOAD
      SOFIE_QUADS_ROW("(%[x0])", 28, 0, 1, 2, 3)
      SOFIE_QUADS_ROW("(%[x0],%[stride])", 29, 4, 5, 6, 7)
      "cmp $3, %[rows]\n\t"
      "jl 9f\n\t"
      SOFIE_QUADS_ROW("(%[x0],%[stride],2)", 30, 8, 9, 10, 11)
      "je 9f\n\t"
      SOFIE_QUADS_ROW("(%[x3])", 28, 12, 13, 14, 15)
      "cmp $5, %[rows]\n\t"
      "jl 9f\n\t"
      SOFIE_QUADS_ROW("(%[x3],%[stride])", 29, 16, 17, 18, 19)
      "je 9f\n\t"
      SOFIE_QUADS_ROW("(%[x3],%[stride],2)", 30, 20, 21, 22, 23)
      "9:\n\t"
      "add %[step], %[x0]\n\t"
      "add %[step], %[x3]\n\t"
      "add %[next], %[w]\n\t"
      "dec %[k]\n\t"
      "jnz 1b\n"
      "2:\n\t"
      "mov %[sums], %[k]\n\t"
      "mov %c[of_sums](%[of]), %[sums]\n\t"
      "test %[k], %[k]\n\t"
      "jz 3f\n\t"
      SOFIE_DENSE_ALL(SOFIE_QUADS_ADD)
      "3:\n\t"
      "inc %[k]\n\t"
      "cmp %c[of_passes](%[of]), %[k]\n\t"
      "jl 22b\n\t"
      "mov %c[of_bias](%[of]), %[w]\n\t"
      "mov %c[of_bias_stride](%[of]), %[next]\n\t"
      "mov %c[of_y_stride](%[of]), %[x0]\n\t"
      "mov %c[of_y](%[of]), %[sums]\n\t"
      SOFIE_QUADS_RESULT(0, 1, 2, 3)
      SOFIE_QUADS_RESULT(4, 5, 6, 7)
      "cmp $3, %[rows]\n\t"
      "jl 7f\n\t"
      SOFIE_QUADS_RESULT(8, 9, 10, 11)
      "cmp $4, %[rows]\n\t"
      "jl 7f\n\t"
      SOFIE_QUADS_RESULT(12, 13, 14, 15)
      "cmp $5, %[rows]\n\t"
      "jl 7f\n\t"
      SOFIE_QUADS_RESULT(16, 17, 18, 19)
      "cmp $6, %[rows]\n\t"
      "jl 7f\n\t"
      SOFIE_QUADS_RESULT(20, 21, 22, 23)
      "7:\n\t"
      "mov %[sums], %c[of_y](%[of])\n\t"
      "mov %[w], %c[of_bias](%[of])\n\t"
      "mov %[rows], %[k]\n\t"
      "imul %[stride], %[k]\n\t"
      "add %[k], %c[of_x](%[of])\n\t"
      "decq %c[of_tiles](%[of])\n\t"
      "jnz 20b\n\t"
      : [w] "=&r"(w), [x0] "=&r"(x), [x3] "=&r"(x3), [k] "=&r"(k), [sums] "=&r"(sums), [rows] "=&r"(rows),
        [stride] "=&r"(stride), [step] "=&r"(step), [next] "=&r"(next)
      : [of] "r"(&of),
        SOFIE_MEMBERS(of, DenseQuads, x, y, tiles, rows, x_stride, x_step, x_pass, w, w_row, w_step, y_stride, bias,
           bias_stride, mask, depth, longer, passes, sums, least)
      : "memory", "cc", "k1", SOFIE_ALL_PACKS);
}
// clang-format on

/// The same for m rows, at least 2, whose places `of` has for the first one.
SOFIE_KERNEL inline void dense_quads(DenseQuads &of, Size m)
{
   const Size tiles = (m + dense_quads_rows - 1) / dense_quads_rows, rows = m / tiles, longer = m % tiles;
   if (longer > 0) {
      of.tiles = longer;
      of.rows = rows + 1;
      dense_quads_tiles(of);
   }
   of.tiles = tiles - longer;
   of.rows = rows;
   dense_quads_tiles(of);
}

} // namespace sofie

SOFIE_END

#endif

#endif
