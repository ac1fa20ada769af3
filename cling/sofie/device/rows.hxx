/// \file
/// Rows that are brought to a common scale: softmax, and normalisations by mean and variance.
#ifndef SOFIE_DEVICE_ROWS_HXX
#define SOFIE_DEVICE_ROWS_HXX

#include "sofie/device/reduce.hxx"

namespace sofie {
namespace device {

/// Over the middle axis of [outer, size, inner]: e^(x - max) / sum, or its logarithm; one work-group for each row.
template <class T, bool Log, int Items>
struct Softmax {
   Index size, inner;

   static constexpr int items = Items;
   struct Local {
      T partial[static_cast<std::size_t>(Items)];
      T largest, sum;
   };

   template <class Group>
   SOFIE_DEVICE void operator()(Group &group, T *y, const T *x) const
   {
      const typename Group::MathOfIt m{};
      auto &local = group.local();
      const Index begin = group.index() / inner * size * inner + group.index() % inner;
      x += begin;
      y += begin;
      fold_group<Items>(
         group, local.partial, &local.largest,
         [&](int item) {
            T found = least<T>();
            for (Index i = item; i < size; i += Items)
               found = maximum(found, x[i * inner]);
            return found;
         },
         [](T a, T b) { return maximum(a, b); });
      fold_group<Items>(
         group, local.partial, &local.sum,
         [&](int item) {
            T sum = T(0);
            for (Index i = item; i < size; i += Items)
               sum += m.exp(x[i * inner] - local.largest);
            return sum;
         },
         [](T a, T b) { return a + b; });
      group.last([&](int item) {
         for (Index i = item; i < size; i += Items) {
            const T shifted = x[i * inner] - local.largest;
            y[i * inner] = Log ? shifted - m.log(local.sum) : m.exp(shifted) / local.sum;
         }
      });
   }
};

/// (x - mean) / sqrt(variance + epsilon) * scale + offset of each row of `size` elements, or without the mean. The
/// scale and the offset have strides of their own for the shape of all elements. The mean and 1 / deviation are
/// outputs where they are wanted.
template <class T, bool Centred, int Rank, int Items, class... Statistics>
struct Normalize {
   double epsilon;
   Index size;
   Sizes<Rank> shape, scale_strides, offset_strides;

   static constexpr int items = Items;
   struct Local {
      T partial[static_cast<std::size_t>(Items)];
      T sum, rest, squares;
   };

   template <class Group, class... Factor>
   SOFIE_DEVICE void operator()(Group &group, T *y, Statistics *...statistics, const T *x,
                                const Factor *...factor) const
   {
      const typename Group::MathOfIt m{};
      auto &local = group.local();
      const Index begin = group.index() * size;
      if constexpr (Centred) {
         fold_group<Items>(
            group, local.partial, &local.sum, [&](int item) { return sum(x + begin, item, T(0)); },
            [](T a, T b) { return a + b; });
         // What the mean was rounded by, which matters where it is large against the deviation.
         fold_group<Items>(
            group, local.partial, &local.rest, [&](int item) { return sum(x + begin, item, mean(local)); },
            [](T a, T b) { return a + b; });
      }
      fold_group<Items>(
         group, local.partial, &local.squares, [&](int item) { return squares(x + begin, item, local); },
         [](T a, T b) { return a + b; });
      group.last([&](int item) {
         const T deviation = m.sqrt(local.squares / static_cast<T>(size) + static_cast<T>(epsilon));
         for (Index i = item; i < size; i += Items)
            y[begin + i] = scaled(centred(x[begin + i], local) / deviation, begin + i, factor...);
         if (item == 0)
            keep(group.index(), whole_mean(local), T(1) / deviation, statistics...);
      });
   }

private:
   SOFIE_DEVICE T mean(const Local &local) const
   {
      if constexpr (Centred)
         return local.sum / static_cast<T>(size);
      else
         return T(0);
   }
   SOFIE_DEVICE T rest(const Local &local) const
   {
      if constexpr (Centred)
         return local.rest / static_cast<T>(size);
      else
         return T(0);
   }
   /// An infinite mean is that, without what it was rounded by.
   SOFIE_DEVICE T whole_mean(const Local &local) const
   {
      const T found = mean(local);
      return found - found == T(0) ? found + rest(local) : found;
   }
   SOFIE_DEVICE T centred(T x, const Local &local) const
   {
      if constexpr (Centred)
         return (x - mean(local)) - rest(local);
      else
         return x;
   }
   SOFIE_DEVICE T sum(const T *x, int item, T less) const
   {
      T found = T(0);
      for (Index i = item; i < size; i += Items)
         found += x[i] - less;
      return found;
   }
   SOFIE_DEVICE T squares(const T *x, int item, const Local &local) const
   {
      T found = T(0);
      for (Index i = item; i < size; i += Items)
         found += centred(x[i], local) * centred(x[i], local);
      return found;
   }
   SOFIE_DEVICE T scaled(T unit, Index) const { return unit; }
   SOFIE_DEVICE T scaled(T unit, Index i, const T *scale) const
   {
      return unit * scale[offset_of(i, shape, scale_strides)];
   }
   SOFIE_DEVICE T scaled(T unit, Index i, const T *scale, const T *offset) const
   {
      return unit * scale[offset_of(i, shape, scale_strides)] + offset[offset_of(i, shape, offset_strides)];
   }
   SOFIE_DEVICE static void keep(Index, T, T) {}
   template <class S>
   SOFIE_DEVICE static void keep(Index row, T mean, T, S *means)
   {
      means[row] = static_cast<S>(mean);
   }
   template <class S>
   SOFIE_DEVICE static void keep(Index row, T mean, T inverse, S *means, S *inverses)
   {
      means[row] = static_cast<S>(mean);
      inverses[row] = static_cast<S>(inverse);
   }
};

} // namespace device
} // namespace sofie

#endif
