/// \file
/// The largest of packs of numbers, and the sum of their exponentials.
#ifndef SOFIE_KERNELS_SOFTMAX_PACKS_HXX
#define SOFIE_KERNELS_SOFTMAX_PACKS_HXX

#include "sofie/math/exponentials.hxx"

SOFIE_BEGIN

namespace sofie {

/// The larger one, element by element; `a` where `b` is NaN, which makes the sum NaN whatever is the largest.
template <class V>
SOFIE_INLINE V larger_number(V a, V b)
{
   return select<V>(b > a, b, a);
}

/// The largest of whole packs, and of what is in `most`.
template <class T>
SOFIE_INLINE Pack<T> largest_of_packs(const T *x, Size count, Pack<T> most)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   V second = most, third = most, fourth = most;
   Size i = 0;
   for (; i + 4 * n <= count; i += 4 * n) {
      most = larger_number(most, load<n>(x + i));
      second = larger_number(second, load<n>(x + i + n));
      third = larger_number(third, load<n>(x + i + 2 * n));
      fourth = larger_number(fourth, load<n>(x + i + 3 * n));
   }
   for (; i < count; i += n)
      most = larger_number(most, load<n>(x + i));
   return larger_number(larger_number(most, second), larger_number(third, fourth));
}

/// Adds e^(x - shift) of whole packs to `sums`, and stores them for the softmax.
template <bool Log, class T>
SOFIE_INLINE Pack<T> add_exponentials(T *y, const T *x, Size count, Pack<T> shift, Pack<T> sums)
{
   constexpr int n = lanes<T>;
#ifdef SOFIE_AVX2_ASSEMBLER
   if constexpr (std::is_same_v<T, float>) {
      alignas(32) float numbers[2][static_cast<std::size_t>(n)];
      store(numbers[0], shift);
      store(numbers[1], sums);
      sum_exponentials<!Log>(y, x, count / n, numbers[0], numbers[1]);
      return load<n>(numbers[1]);
   }
#endif
   for (Size i = 0; i < count; i += n) {
      const Pack<T> power = exp(load<n>(x + i) - shift);
      sums += power;
      if constexpr (!Log)
         store(y + i, power);
   }
   return sums;
}

} // namespace sofie

SOFIE_END

#endif
