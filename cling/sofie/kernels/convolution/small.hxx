/// \file
/// Convolutions of images of a few places: one matrix, from all that an event has to all that it gets.
///
/// Finding out which taps are inside an image takes longer there than multiplying by zeros.
#ifndef SOFIE_KERNELS_CONVOLUTION_SMALL_HXX
#define SOFIE_KERNELS_CONVOLUTION_SMALL_HXX

#include "sofie/kernels/dense.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER
// clang-format off
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_FINITE_NAN "vcmpunordps %%zmm0, %%zmm0, %%k1\n\tkortestw %%k1, %%k1\n\t"
#else
#define SOFIE_FINITE_NAN "vcmpunordps %%ymm0, %%ymm0, %%ymm0\n\tvptest %%ymm0, %%ymm0\n\t"
#endif
#define SOFIE_FINITE_PACK(place, sum) "vfmadd231ps " place "(%[x]), " SOFIE_PACK(6) ", " SOFIE_PACK(sum) "\n\t"
#define SOFIE_FINITE_ADD(sum) "vaddps " SOFIE_PACK(sum) ", " SOFIE_PACK(0) ", " SOFIE_PACK(0) "\n\t"
#define SOFIE_FINITE_IF(count, text) "test $" #count ", %b[left]\n\tjz 4" #count "f\n\t" text "add $4*" #count ", %[x]\n4" #count ":\n\t"
/// Whether all numbers are finite, as zero times each is: four packs at a time, and the rest in pieces, because a load
/// of more than one store has written would wait.
SOFIE_KERNEL inline bool are_finite(const float *x, Size left)
{
   bool finite;
   asm volatile(
      SOFIE_DENSE_ZERO(0) SOFIE_DENSE_ZERO(1) SOFIE_DENSE_ZERO(2) SOFIE_DENSE_ZERO(3)
      SOFIE_DENSE_ZERO(4) SOFIE_DENSE_ZERO(5) SOFIE_DENSE_ZERO(6) SOFIE_DENSE_ZERO(7)
      "1:\n\t"
      "sub $" SOFIE_PACK_BYTES ", %[left]\n\t"
      "jl 2f\n\t"
      SOFIE_FINITE_PACK("", 0) SOFIE_FINITE_PACK(SOFIE_PACK_BYTES, 1)
      SOFIE_FINITE_PACK("2*" SOFIE_PACK_BYTES, 2) SOFIE_FINITE_PACK("3*" SOFIE_PACK_BYTES, 3)
      "add $4*" SOFIE_PACK_BYTES ", %[x]\n\t"
      "jmp 1b\n"
      "2:\n\t"
      SOFIE_DENSE_LOWER(SOFIE_FINITE_IF(32, SOFIE_FINITE_PACK("", 0) SOFIE_FINITE_PACK("64", 1)))
      SOFIE_FINITE_IF(16, SOFIE_FINITE_PACK("", 2) ".if " SOFIE_PACK_BYTES " == 32\n\t" SOFIE_FINITE_PACK("32", 3) ".endif\n\t")
      SOFIE_FINITE_IF(8, "vmulps (%[x]), %%ymm6, %%ymm4\n\t")
      SOFIE_FINITE_IF(4, "vmulps (%[x]), %%xmm6, %%xmm7\n\t")
      SOFIE_FINITE_IF(2, "vmovq (%[x]), %%xmm5\n\t")
      SOFIE_FINITE_IF(1, "vinsertps $0x20, (%[x]), %%xmm5, %%xmm5\n\t")
      "vmulps %%xmm6, %%xmm5, %%xmm5\n\t"
      SOFIE_FINITE_ADD(1) SOFIE_FINITE_ADD(2) SOFIE_FINITE_ADD(3) SOFIE_FINITE_ADD(4) SOFIE_FINITE_ADD(5) SOFIE_FINITE_ADD(7)
      SOFIE_FINITE_NAN
      "setz %[finite]\n\t"
      : [x] "+&r"(x), [left] "+&r"(left), [finite] "=&r"(finite)
      :
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   return finite;
}
// clang-format on
#endif

/// The same for any type: `count` numbers, as packs and what is left.
template <class T>
SOFIE_KERNEL bool are_finite(const T *x, Size count)
{
   constexpr int n = lanes<T>;
   Pack<T> nothing{};
   Size i = 0;
   for (; i + n <= count; i += n)
      nothing = multiply_add(load<n>(x + i), Pack<T>{}, nothing);
   if (i < count)
      nothing = multiply_add(load_some<n>(x + i, count - i), Pack<T>{}, nothing);
   return sum_of_lanes(nothing) == 0;
}

/// A row with numbers that are not finite: they reach only those sums that have a weight for them, which is not -0.
template <class F, class T, Size K, Size N>
SOFIE_KERNEL void small_convolution_row(const F &f, T *y, const T *x, const DenseWeights<T, K, N> &w)
{
   for (Size j = 0; j < N; ++j) {
      T sum = 0;
      for (Size k = 0; k < K; ++k)
         if (w.weight(k, j) != 0 || !__builtin_signbit(w.weight(k, j)))
            sum += x[k] * w.weight(k, j);
      y[j] = sum + w.bias(0)[j];
   }
   apply_function(f, y, y, N);
}

/// y[m, j] = f(sum_k x[m, k] * w[k, j] + b[j])
template <class F, class T, Size M, Size K, Size N, class Weights>
SOFIE_INLINE void small_convolution(const F &f, View<T, M, N> y, View<const T, M, K> x, const Weights &w)
{
   dense(f, y, x, w);
   const Size m = x.template extent<0>();
   if (!are_finite(x.data(), m * K))
      for (Size i = 0; i < m; ++i)
         if (!are_finite(x.data() + i * K, K))
            small_convolution_row(f, y.data() + i * N, x.data() + i * K, w);
}

} // namespace sofie

SOFIE_END

#endif
