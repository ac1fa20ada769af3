/// \file
/// The tile of accumulators of dense layers whose rows lie side by side in the lanes of registers.
///
/// There a layer is computed of exactly as many columns as it has, and what it gives is what the next
/// layer reads: nothing is filled up, nothing is packed.
#ifndef SOFIE_KERNELS_DENSE_LANES_TILE_HXX
#define SOFIE_KERNELS_DENSE_LANES_TILE_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense/tile.hxx"
#include "sofie/kernels/transpose/blocks.hxx"

#ifdef SOFIE_AVX512_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

// clang-format off
// A column of w times the rows of x, which are in zmm26 and zmm27.
#define SOFIE_LANES_PRODUCT(column, number, a, b)                                  \
   "vbroadcastss " #column "*4(%[w]), %%zmm" #number "\n\t"                        \
   "vfmadd231ps %%zmm26, %%zmm" #number ", %%zmm" #a "\n\t"                        \
   "vfmadd231ps %%zmm27, %%zmm" #number ", %%zmm" #b "\n\t"

// `each` of the columns, with a register for its number and its accumulators: 8, 10 or 13.
#define SOFIE_LANES_EACH(each)                                                                                  \
   each(0, 28, 0, 1) each(1, 29, 2, 3) each(2, 30, 4, 5) each(3, 31, 6, 7) each(4, 28, 8, 9)                    \
   each(5, 29, 10, 11) each(6, 30, 12, 13) each(7, 31, 14, 15)                                                  \
   ".if %c[columns] > 8\n\t" each(8, 28, 16, 17) each(9, 29, 18, 19) ".endif\n\t"                               \
   ".if %c[columns] > 10\n\t" each(10, 30, 20, 21) each(11, 31, 22, 23) each(12, 28, 24, 25) ".endif\n\t"

#define SOFIE_LANES_ZERO(column, number, a, b) SOFIE_DENSE_ZERO(a) SOFIE_DENSE_ZERO(b)
#define SOFIE_LANES_ADD(column, number, a, b)                                      \
   "vaddps " #column "*128(%[y]), %%zmm" #a ", %%zmm" #a "\n\t"                    \
   "vaddps " #column "*128+64(%[y]), %%zmm" #b ", %%zmm" #b "\n\t"
#define SOFIE_LANES_BIAS(column, number, a, b)                                     \
   "vaddps " #column "*4(%[bias])%{1to16%}, %%zmm" #a ", %%zmm" #a "\n\t"          \
   "vaddps " #column "*4(%[bias])%{1to16%}, %%zmm" #b ", %%zmm" #b "\n\t"
#define SOFIE_LANES_RELU(column, number, a, b) SOFIE_DENSE_RELU(a) SOFIE_DENSE_RELU(b)
#define SOFIE_LANES_STORE(column, number, a, b)                                    \
   "vmovups %%zmm" #a ", " #column "*128(%[y])\n\tvmovups %%zmm" #b ", " #column "*128+64(%[y])\n\t"
// clang-format on

/// What becomes of the sums: they go to y, with the bias and the function if there is a bias.
struct LanesEnd {
   float *y;
   const float *bias;
   std::int32_t add; // Whether what is in y comes first.
   std::int32_t relu;
};

/// y[j][r] = sum_k x[k * x_step + r] * w[k * w_step + j] for 32 rows r and `Columns` columns j.
template <int Columns>
SOFIE_KERNEL void lanes_tile(const float *x, Size x_step, const float *w, Size w_step, Size depth, const LanesEnd &end)
{
   static_assert(Columns == 8 || Columns == 10 || Columns == 13, "the columns that `SOFIE_LANES_EACH` has");
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   const Size step = x_step * bytes, next = w_step * bytes;
   const float *bias;
   // clang-format off
   asm volatile(
      SOFIE_LANES_EACH(SOFIE_LANES_ZERO)
      "test %[k], %[k]\n\t"
      "jle 2f\n\t"
      ".p2align 5\n"
      "1:\n\t"
      "vmovups (%[x]), %%zmm26\n\t"
      "vmovups 64(%[x]), %%zmm27\n\t"
      SOFIE_LANES_EACH(SOFIE_LANES_PRODUCT)
      "add %[step], %[x]\n\t"
      "add %[next], %[w]\n\t"
      "dec %[k]\n\t"
      "jnz 1b\n"
      "2:\n\t"
      "cmpl $0, %c[end_add](%[end])\n\t"
      "je 3f\n\t"
      SOFIE_LANES_EACH(SOFIE_LANES_ADD)
      "3:\n\t"
      "mov %c[end_bias](%[end]), %[bias]\n\t"
      "test %[bias], %[bias]\n\t"
      "jz 4f\n\t"
      SOFIE_LANES_EACH(SOFIE_LANES_BIAS)
      "cmpl $0, %c[end_relu](%[end])\n\t"
      "je 4f\n\t"
      SOFIE_DENSE_ZERO(27)
      SOFIE_LANES_EACH(SOFIE_LANES_RELU)
      "4:\n\t"
      SOFIE_LANES_EACH(SOFIE_LANES_STORE)
      : [x] "+&r"(x), [w] "+&r"(w), [k] "+&r"(depth), [bias] "=&r"(bias)
      : [step] "r"(step), [next] "r"(next), [y] "r"(end.y), [end] "r"(&end),
        SOFIE_MEMBERS(end, LanesEnd, bias, add, relu),
        [columns] "i"(Columns)
      : "memory", "cc", SOFIE_ALL_PACKS);
   // clang-format on
}

/// How many columns a tile has that computes the fewest in vain of a layer in panels of `width` columns.
constexpr int lanes_tile_columns(Size columns, Size width)
{
   const Size count = columns < width ? columns : width;
   int best = 8;
   // Many columns load less for each product.
   Size least = (count + 7) / 8 * 8 * 33;
   for (int size : {10, 13}) {
      const Size cost = (count + size - 1) / size * size * 32;
      if (cost <= least) {
         best = size;
         least = cost;
      }
   }
   return best;
}

} // namespace sofie

SOFIE_END

#endif

#endif
