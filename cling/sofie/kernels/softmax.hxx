/// \file
/// softmax and log_softmax along the middle axis of [outer, n, inner].
#ifndef SOFIE_KERNELS_SOFTMAX_HXX
#define SOFIE_KERNELS_SOFTMAX_HXX

#include "sofie/kernels/softmax/columns.hxx"
#include "sofie/kernels/softmax/packs.hxx"
#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

/// Vectors of `count` elements that are `stride` apart; the lanes of a pack hold `lanes_used`
/// vectors that stand side by side.
template <bool Log, class T>
SOFIE_INLINE void softmax_columns(T *y, const T *x, Size count, Size stride, Size lanes_used)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   V most = splat<V>(static_cast<T>(-__builtin_inf()));
   for (Size i = 0; i < count; ++i)
      most = larger_number(most, load_some<n>(x + i * stride, lanes_used));
   V sum{};
   for (Size i = 0; i < count; ++i) {
      const V power = exp(load_some<n>(x + i * stride, lanes_used) - most);
      sum += power;
      if constexpr (!Log)
         store_some(y + i * stride, power, lanes_used);
   }
   if constexpr (Log)
      sum = log(sum);
   for (Size i = 0; i < count; ++i) {
      if constexpr (Log)
         store_some(y + i * stride, load_some<n>(x + i * stride, lanes_used) - most - sum, lanes_used);
      else
         store_some(y + i * stride, load_some<n>(y + i * stride, lanes_used) / sum, lanes_used);
   }
}

/// One vector of `count` neighbours.
template <bool Log, class T>
SOFIE_INLINE void softmax_row(T *y, const T *x, Size count)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const T lowest = static_cast<T>(-__builtin_inf());
   // Lanes behind the end hold -inf, whose exponential is 0 and which is never the largest.
   alignas(64) T tail[static_cast<std::size_t>(n)];
   for (int i = 0; i < n; ++i)
      tail[i] = lowest;
   const Size whole = count / n * n;
   for (Size i = whole; i < count; ++i)
      tail[i - whole] = x[i];
   const V shift = splat<V>(largest_of_lanes(largest_of_packs(x, whole, load<n>(tail))));
   V last{};
   if (whole < count) {
      // All-(-inf) rows: -inf - -inf is NaN in the real lanes, as in NumPy; keep it out of the others.
      last = exp(load<n>(tail) - shift);
      for (Size i = count - whole; i < n; ++i)
         last[i] = 0;
   }
   const V total = splat<V>(sum_of_lanes(add_exponentials<Log, T>(y, x, whole, shift, last)));
   const V logarithm = Log ? log(total) : V{};
   for (Size i = 0; i < whole; i += n) {
      if constexpr (Log)
         store(y + i, load<n>(x + i) - shift - logarithm);
      else
         store(y + i, load<n>(y + i) / total);
   }
   if (whole == count)
      return;
   if constexpr (Log)
      store_some(y + whole, load<n>(tail) - shift - logarithm, count - whole);
   else
      store_some(y + whole, last / total, count - whole);
}

/// Whether there are kernels in assembler for this type.
#ifdef SOFIE_AVX512_ASSEMBLER
template <class T>
inline constexpr bool softmax_in_assembler = std::is_same_v<T, float>;
#else
template <class T>
inline constexpr bool softmax_in_assembler = false;
#endif

template <bool Log, class T>
SOFIE_INLINE void softmax_vectors(T *y, const T *x, Size outer, Size count, Size inner)
{
   for (Size i = 0; i < outer; ++i, y += count * inner, x += count * inner) {
      if (inner == 1) {
         softmax_row<Log>(y, x, count);
      } else {
         for (Size j = 0; j < inner; j += lanes<T>)
            softmax_columns<Log>(y + j, x + j, count, inner, inner - j < lanes<T> ? inner - j : lanes<T>);
      }
   }
}

template <bool Log, class Y, class X>
SOFIE_INLINE void softmax_along(const Y &y, const X &x)
{
   using T = typename Y::Element;
   const Size outer = y.template extent<0>(), count = y.template extent<1>(), inner = y.template extent<2>();
   if constexpr (!softmax_in_assembler<T>)
      softmax_vectors<Log, T>(y.data(), x.data(), outer, count, inner);
#ifdef SOFIE_AVX512_ASSEMBLER
   else if (inner == 1)
      softmax_rows<Log>(y.data(), x.data(), outer, count);
   else
      softmax_float_columns<Log>(y.data(), x.data(), outer, count, inner);
#endif
}

/// y[o, i, j] = e^(x[o, i, j] - max) / sum_i e^(x[o, i, j] - max)
template <class Y, class X>
SOFIE_KERNEL void softmax(Y y, X x)
{
   softmax_along<false>(y, x);
}

/// y[o, i, j] = x[o, i, j] - max - ln sum_i e^(x[o, i, j] - max)
template <class Y, class X>
SOFIE_KERNEL void log_softmax(Y y, X x)
{
   softmax_along<true>(y, x);
}

} // namespace sofie

SOFIE_END

#endif
