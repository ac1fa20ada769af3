/// \file
/// softmax and log_softmax along the middle axis of [outer, n, inner].
#ifndef SOFIE_KERNELS_SOFTMAX_HXX
#define SOFIE_KERNELS_SOFTMAX_HXX

#include "sofie/kernels/softmax/packs.hxx"
#include "sofie/kernels/softmax/rows.hxx"
#include "sofie/math.hxx"

SOFIE_BEGIN

namespace sofie {

/// Lanes that are `columns` apart belong to one column: each of those in use gets what they are together.
template <class Combine, class V>
SOFIE_KERNEL void join_lanes(V &pack, Size columns, Size used)
{
   using T = ElementOf<V>;
   using One = PackN<T, 1>;
   alignas(64) T all[static_cast<std::size_t>(width<V>)];
   store(all, pack);
   for (Size first = columns; first < used; first += columns)
      for (Size i = 0; i < columns; ++i)
         all[i] = Combine::combined(One{all[i]}, One{all[first + i]})[0];
   for (Size i = columns; i < used; ++i)
      all[i] = all[i - columns];
   pack = load<width<V>>(all);
}

/// The sum of e^(x - most) in packs of `count` numbers, `step` apart; y gets them if there is no logarithm.
template <bool Log, class T, class V>
SOFIE_INLINE V add_column_exponentials(T *y, const T *x, Size packs, Size step, V most, Size count)
{
#ifdef SOFIE_AVX512_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      return sum_column_exponentials<!Log>(y, x, packs, step, most, count);
#endif
   V sum{};
   for (; packs > 0; --packs, x += step, y += step) {
      const V power = exp(load_some<width<V>>(x, count) - most);
      sum += power;
      if constexpr (!Log)
         store_some(y, power, count);
   }
   return sum;
}

/// What is done in the end, with the inverse of the sum or its logarithm.
template <bool Log, class T, class V>
SOFIE_INLINE void finish_softmax(T *y, const T *x, V most, V sum, Size count)
{
   if constexpr (Log)
      store_some(y, load_some<width<V>>(x, count) - most - sum, count);
   else
      store_some(y, load_some<width<V>>(y, count) * sum, count);
}

/// Up to a pack of columns of rows that are `stride` apart. As many rows as fit into a pack are one, where there is
/// nothing between them.
template <bool Log, class T>
SOFIE_INLINE void softmax_columns(T *y, const T *x, Size rows, Size stride, Size columns)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const Size fitting = stride == columns ? n / columns : 1, together = fitting > 1 && fitting > rows ? rows : fitting;
   const Size used = together * columns, step = together * stride, packs = rows / together, whole = packs * step;
   const Size rest = rows % together * columns;
   const auto in_rest = lane_numbers<V>() < static_cast<ElementOf<MaskOf<V>>>(rest);
   V most = splat<V>(static_cast<T>(-__builtin_inf()));
   SOFIE_UNROLL(4)
   for (Size i = 0; i < whole; i += step)
      most = larger_number(most, load_some<n>(x + i, used));
   if (rest > 0)
      most = select<V>(in_rest, larger_number(most, load_some<n>(x + whole, rest)), most);
   if (together > 1)
      join_lanes<LargestOfLanes>(most, columns, used);
   V sum = add_column_exponentials<Log>(y, x, packs, step, most, used);
   if (rest > 0)
      sum += select<V>(in_rest, add_column_exponentials<Log>(y + whole, x + whole, 1, step, most, rest), V{});
   if (together > 1)
      join_lanes<SumOfLanes>(sum, columns, used);
   sum = Log ? log(sum) : splat<V>(1) / sum;
   for (Size i = 0; i < whole; i += step)
      finish_softmax<Log>(y + i, x + i, most, sum, used);
   if (rest > 0)
      finish_softmax<Log>(y + whole, x + whole, most, sum, rest);
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

template <bool Log, class Y, class X>
SOFIE_INLINE void softmax_along(const Y &to, const X &from)
{
   using T = typename Y::Element;
   const Size outer = to.template extent<0>(), count = to.template extent<1>(), inner = to.template extent<2>();
   T *y = to.data();
   const T *x = from.data();
#ifdef SOFIE_AVX512_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      if (inner == 1)
         return softmax_rows<Log>(y, x, outer, count);
#endif
   for (Size i = 0; count > 0 && i < outer; ++i, y += count * inner, x += count * inner) {
      if (inner == 1)
         softmax_row<Log>(y, x, count);
      Size j = 0;
      // A number of columns that the compiler knows.
      for (; inner > 1 && j + lanes<T> <= inner; j += lanes<T>)
         softmax_columns<Log>(y + j, x + j, count, inner, Size{lanes<T>});
      if (inner > 1 && j < inner)
         softmax_columns<Log>(y + j, x + j, count, inner, inner - j);
   }
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
