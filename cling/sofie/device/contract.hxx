/// \file
/// Sums of products over any axes, determinants, and what is done for all pairs of the elements of an axis.
#ifndef SOFIE_DEVICE_CONTRACT_HXX
#define SOFIE_DEVICE_CONTRACT_HXX

#include "sofie/device/base.hxx"

namespace sofie {
namespace device {

/// y[kept] = the sum over the other labels of the product of all x; one item for each result.
template <int Kept, int Summed, int Inputs>
struct Contract {
   Sizes<Kept> kept;
   Sizes<Summed> summed;
   Sizes<Kept> kept_strides[static_cast<std::size_t>(Inputs)];
   Sizes<Summed> summed_strides[static_cast<std::size_t>(Inputs)];
   Index count;

   template <class At, class T, class... X>
   SOFIE_DEVICE void operator()(At at, T *y, const X *...x) const
   {
      static_assert(sizeof...(X) == Inputs, "strides for each input");
      contracted(at.index, std::make_index_sequence<sizeof...(X)>(), y, x...);
   }

private:
   template <std::size_t... I, class T, class... X>
   SOFIE_DEVICE void contracted(Index index, std::index_sequence<I...>, T *y, const X *...x) const
   {
      const Index begins[] = {offset_of(index, kept, kept_strides[I])...};
      T sum = T(0);
      for (Index i = 0; i < count; ++i) {
         T product = T(1);
         ((product = times(product, x[begins[I] + offset_of(i, summed, summed_strides[I])])), ...);
         sum = plus(sum, product);
      }
      y[index] = sum;
   }
};

/// The determinant of each matrix of n rows, by elimination in `work`; one item for each.
struct Determinant {
   Index n;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, T *work, const T *x) const
   {
      T *const a = work + at.index * n * n;
      for (Index i = 0; i < n * n; ++i)
         a[i] = x[at.index * n * n + i];
      T found = T(1);
      for (Index k = 0; k < n; ++k) {
         Index pivot = k;
         for (Index i = k + 1; i < n; ++i)
            pivot = at.math.fabs(a[i * n + k]) > at.math.fabs(a[pivot * n + k]) ? i : pivot;
         for (Index j = k; j < n && pivot != k; ++j) {
            const T one = a[k * n + j];
            a[k * n + j] = a[pivot * n + j];
            a[pivot * n + j] = one;
         }
         const T head = a[k * n + k], safe = head == T(0) ? T(1) : head;
         found *= pivot == k ? head : -head;
         for (Index i = k + 1; i < n; ++i) {
            const T factor = a[i * n + k] / safe;
            for (Index j = k; j < n; ++j)
               a[i * n + j] -= factor * a[k * n + j];
         }
      }
      y[at.index] = found;
   }
};

/// Pair number p of (1, 0), (2, 0), (2, 1), (3, 0), ...
struct Pair {
   Index i, j;

   template <class M>
   SOFIE_DEVICE static Pair number(M m, Index p)
   {
      // The root is rounded, so the row is looked for beside it.
      Index i = static_cast<Index>((1.0F + m.sqrt(1.0F + 8.0F * static_cast<float>(p))) / 2.0F);
      while (i * (i - 1) / 2 > p)
         --i;
      while (i * (i + 1) / 2 <= p)
         ++i;
      return Pair{i, p - i * (i - 1) / 2};
   }
};

/// y[p] = i, or j, of all pairs.
struct PairIndices {
   bool second;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y) const
   {
      const Pair pair = Pair::number(at.math, at.index);
      y[at.index] = static_cast<T>(second ? pair.j : pair.i);
   }
};

/// y[r, p] = x[r, i], or x[r, j], for all pairs of `size` elements.
struct PairTerms {
   Index size, pairs;
   bool second;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x) const
   {
      const Pair pair = Pair::number(at.math, at.index % pairs);
      y[at.index] = x[at.index / pairs * size + (second ? pair.j : pair.i)];
   }
};

/// y[r, i, j] = y[r, j, i] = x[r, p], and a number where i = j.
struct Symmetric {
   Index size, pairs;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x, const T *diagonal) const
   {
      const Index a = at.index / size % size, b = at.index % size, row = at.index / size / size;
      const Index i = a > b ? a : b, j = a > b ? b : a;
      y[at.index] = i == j ? *diagonal : x[row * pairs + i * (i - 1) / 2 + j];
   }
};

} // namespace device
} // namespace sofie

#endif
