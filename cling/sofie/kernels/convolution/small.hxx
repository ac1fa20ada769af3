/// \file
/// Convolutions of images of a few places: one matrix, from all that an event has to all that it gets.
///
/// Finding out which taps are inside an image takes longer there than multiplying by zeros.
#ifndef SOFIE_KERNELS_CONVOLUTION_SMALL_HXX
#define SOFIE_KERNELS_CONVOLUTION_SMALL_HXX

#include "sofie/kernels/dense.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_AVX512_ASSEMBLER
// clang-format off
#define SOFIE_FINITE(place, sum) "vfmadd231ps " place "(%[x]), %[zero], %[" sum "]\n\t"
/// Whether all numbers are finite: four packs at a time, each its own sum.
SOFIE_KERNEL inline bool are_finite(const float *x, Size count)
{
   const PackN<float, 16> zero{};
   PackN<float, 16> a = zero, b = zero, c = zero, d = zero;
   Size fours = count >> 6, packs = count >> 4 & 3;
   const unsigned mask = (1U << (count & 15)) - 1;
   asm volatile(
      "test %[fours], %[fours]\n\t"
      "jz 2f\n"
      "1:\n\t"
      SOFIE_FINITE("", "a") SOFIE_FINITE("64", "b") SOFIE_FINITE("128", "c") SOFIE_FINITE("192", "d")
      "add $256, %[x]\n\t"
      "dec %[fours]\n\t"
      "jnz 1b\n"
      "2:\n\t"
      "test %[packs], %[packs]\n\t"
      "jz 4f\n"
      "3:\n\t"
      SOFIE_FINITE("", "a")
      "add $64, %[x]\n\t"
      "dec %[packs]\n\t"
      "jnz 3b\n"
      "4:\n\t"
      "test %[mask], %[mask]\n\t"
      "jz 5f\n\t"
      "kmovw %[mask], %%k1\n\t"
      "vfmadd231ps (%[x]), %[zero], %[b]%{%%k1%}\n"
      "5:\n\t"
      : [a] "+v"(a), [b] "+v"(b), [c] "+v"(c), [d] "+v"(d), [x] "+&r"(x), [fours] "+&r"(fours), [packs] "+&r"(packs)
      : [zero] "v"(zero), [mask] "r"(mask)
      : "memory", "cc", "k1");
   return sum_of_lanes((a + b) + (c + d)) == 0;
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
