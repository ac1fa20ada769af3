/// \file
/// Sums of products over named axes, and determinants.
#ifndef SOFIE_KERNELS_CONTRACTION_HXX
#define SOFIE_KERNELS_CONTRACTION_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

// Einsum -------------------------------------------------------------------------------------------

/// The tensors that are multiplied; `strides[t * labels + l]` is how far apart neighbours of tensor t
/// are along the axis with label l.
template <class T>
struct Factors {
   static constexpr int most = 16;
   int count;
   int labels;
   const Size *sizes;
   const Size *strides;
   const T *at[most];

   SOFIE_INLINE Size stride(int tensor, Size label) const { return strides[tensor * labels + label]; }

   /// Goes `steps` steps along an axis.
   SOFIE_INLINE void move(Size label, Size steps)
   {
      for (int t = 0; t < count; ++t)
         at[t] += steps * stride(t, label);
   }

   /// Whether elements along this axis are neighbours in all tensors, or the same one.
   SOFIE_INLINE bool is_dense(Size label) const
   {
      for (int t = 0; t < count; ++t)
         if (stride(t, label) != 0 && stride(t, label) != 1)
            return false;
      return true;
   }

   /// The next position of the axes [first, last), the last one fastest.
   SOFIE_INLINE void next(Size *index, Size first, Size last)
   {
      for (Size l = last - 1; l >= first; --l) {
         move(l, 1);
         if (++index[l] < sizes[l])
            return;
         move(l, -sizes[l]);
         index[l] = 0;
      }
   }
};

/// `count` elements along an axis on which they are `stride` apart.
template <int N, class T>
SOFIE_INLINE PackN<T, N> strided(const T *from, Size stride, Size count)
{
   using V = PackN<T, N>;
   if (stride == 1)
      return load_some<N>(from, count);
   if (stride == 0)
      return splat<V>(*from);
   V v{};
   for (Size i = 0; i < count; ++i)
      v[i] = from[i * stride];
   return v;
}

/// The products of the next `count` elements along an axis.
template <int N, class T>
SOFIE_INLINE PackN<T, N> products(const Factors<T> &x, Size label, Size position, Size count)
{
   PackN<T, N> product = strided<N>(x.at[0] + position * x.stride(0, label), x.stride(0, label), count);
   for (int t = 1; t < x.count; ++t) {
      const Size stride = x.stride(t, label);
      product = times(product, strided<N>(x.at[t] + position * stride, stride, count));
   }
   return product;
}

/// What a contraction is: the first `kept` of all labels are those of the result.
struct Contraction {
   Size kept;
   Size labels;
   Size terms;   ///< positions of the labels that are not kept
   Size results; ///< positions of the labels that are kept
};

/// The sum of one result and of those behind it along the last axis, each in a lane of its own.
template <int N, class T>
SOFIE_INLINE PackN<T, N> sum_side_by_side(Factors<T> &x, Size *index, const Contraction &how, Size position, Size count)
{
   PackN<T, N> sum{};
   for (Size term = 0; term < how.terms; ++term) {
      sum = plus(sum, products<N>(x, how.kept - 1, position, count));
      x.next(index, how.kept, how.labels);
   }
   return sum;
}

/// The sum of one result, with several terms along the last axis in a pack.
template <class T>
SOFIE_INLINE T sum_of_neighbours(Factors<T> &x, Size *index, const Contraction &how)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const Size last = how.labels - 1, length = x.sizes[last];
   V sums[2] = {};
   for (Size outer = length ? how.terms / length : 0; outer > 0; --outer) {
      Size i = 0;
      for (; i + 2 * n <= length; i += 2 * n) {
         sums[0] = plus(sums[0], products<n>(x, last, i, n));
         sums[1] = plus(sums[1], products<n>(x, last, i + n, n));
      }
      for (; i < length; i += n) {
         const Size count = length - i < n ? length - i : n;
         V v = products<n>(x, last, i, count);
         for (Size l = count; l < n; ++l)
            v[l] = 0; // Where elements are the same for all lanes.
         sums[0] = plus(sums[0], v);
      }
      x.next(index, how.kept, last);
   }
   PackN<T, 1> total{};
   const V both = plus(sums[0], sums[1]);
   for (int l = 0; l < n; ++l)
      total = plus(total, PackN<T, 1>{both[l]});
   return total[0];
}

/// y[kept labels] = sum over the others of the product of all tensors
template <class T>
SOFIE_KERNEL void contract(T *y, Factors<T> x, const Contraction &how)
{
   constexpr int n = lanes<T>;
   constexpr int most_labels = 64;
   if (how.labels > most_labels)
      throw std::invalid_argument("an Einsum with more than 64 labels");
   Size index[most_labels] = {};
   if (how.results == 0)
      return;
   const bool has_rows =
      how.kept > 0 && (how.kept == how.labels || x.is_dense(how.kept - 1) || !x.is_dense(how.labels - 1));
   if (!has_rows) {
      for (Size r = 0; r < how.results; ++r) {
         *y++ = how.labels > how.kept ? sum_of_neighbours(x, index, how) : products<1>(x, 0, 0, 1)[0];
         x.next(index, 0, how.kept);
      }
      return;
   }
   const Size length = x.sizes[how.kept - 1];
   for (Size row = how.results / length; row > 0; --row) {
      for (Size j = 0; j < length; j += n) {
         const Size count = length - j < n ? length - j : n;
         store_some(y + j, sum_side_by_side<n>(x, index, how, j, count), count);
      }
      y += length;
      x.next(index, 0, how.kept - 1);
   }
}

/// The sizes of all labels, of which the first `kept` are the result's, and the strides of each tensor along them.
template <class Y, class... X, int Labels, int Strides>
SOFIE_INLINE void einsum(Y y, Size kept, const Sizes<Labels> &sizes, const Sizes<Strides> &strides, X... x)
{
   using T = typename Y::Element;
   static_assert(Strides == Labels * static_cast<int>(sizeof...(X)), "one stride for each label of each tensor");
   const Factors<T> factors{static_cast<int>(sizeof...(X)), Labels, sizes.values, strides.values, {x.data()...}};
   Contraction how{kept, Labels, 1, 1};
   for (Size l = 0; l < Labels; ++l)
      (l < kept ? how.results : how.terms) *= sizes[l];
   contract(y.data(), factors, how);
}

// Determinants -------------------------------------------------------------------------------------

/// The determinant of a[n, n], which is destroyed: Gauss's elimination with the largest pivot of each column.
inline SOFIE_KERNEL double determinant(double *a, Size n)
{
   double result = 1;
   for (Size k = 0; k < n; ++k) {
      Size pivot = k;
      double largest = __builtin_fabs(a[k * n + k]);
      for (Size i = k + 1; i < n; ++i) {
         const double size = __builtin_fabs(a[i * n + k]);
         if (size > largest || (size != size && largest == largest)) {
            pivot = i;
            largest = size;
         }
      }
      for (Size j = k; pivot != k && j < n; ++j) {
         const double other = a[k * n + j];
         a[k * n + j] = a[pivot * n + j];
         a[pivot * n + j] = other;
      }
      if (pivot != k)
         result = -result;
      result *= a[k * n + k];
      if (largest == 0)
         return result;
      for (Size i = k + 1; i < n; ++i) {
         const double factor = a[i * n + k] / a[k * n + k];
         for (Size j = k + 1; j < n; ++j)
            a[i * n + j] -= factor * a[k * n + j];
      }
   }
   return result;
}

template <class T>
SOFIE_KERNEL void determinants(T *y, double *work, const T *x, Size count, Size n)
{
   for (Size i = 0; i < count; ++i, x += n * n) {
      for (Size j = 0; j < n * n; ++j)
         work[j] = x[j];
      y[i] = static_cast<T>(determinant(work, n));
   }
}

/// y[i] = det x[i], where the work holds one matrix
template <class Y, class W, class X>
SOFIE_INLINE void det(Y y, W work, X x)
{
   determinants(y.data(), work.data(), x.data(), x.template extent<0>(), x.template extent<1>());
}

} // namespace sofie

SOFIE_END

#endif
