/// \file
/// Kernels that move elements and compute nothing.
#ifndef SOFIE_KERNELS_LAYOUT_HXX
#define SOFIE_KERNELS_LAYOUT_HXX

#include "sofie/view.hxx"

SOFIE_BEGIN

namespace sofie {

template <class T>
SOFIE_INLINE void copy_elements(T *to, const T *from, Size count)
{
   __builtin_memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
}

/// y[i] = x[i]
template <class Y, class X>
SOFIE_KERNEL void copy(Y y, X x)
{
   copy_elements(y.data(), x.data(), y.size());
}

template <class T, class X>
SOFIE_INLINE T *append(T *to, const X &x, Size row)
{
   const Size count = x.template extent<1>();
   copy_elements(to, x.data() + row * count, count);
   return to + count;
}

/// Row i of y is row i of each x, one after the other.
template <class Y, class... X>
SOFIE_KERNEL void concat(Y y, X... x)
{
   auto *to = y.data();
   for (Size i = 0; i < y.template extent<0>(); ++i)
      ((to = append(to, x, i)), ...);
}

template <int Axis, int... Perm, class Y, class X>
SOFIE_INLINE void transpose_axis(const Y &y, const X &x)
{
   constexpr int order[] = {Perm...};
   const Size count = y.template extent<Axis>();
   const Size apart = x.template size_from<order[Axis] + 1>();
   if constexpr (Axis == Y::rank - 1) {
      for (Size i = 0; i < count; ++i)
         y.data()[i] = x.data()[i * apart];
   } else {
      const Size step = y.template size_from<Axis + 1>();
      for (Size i = 0; i < count; ++i)
         transpose_axis<Axis + 1, Perm...>(y.shifted(i * step), x.shifted(i * apart));
   }
}

/// y's axis a is x's axis Perm[a].
template <int... Perm, class Y, class X>
SOFIE_KERNEL void transpose(Y y, X x)
{
   static_assert(Y::rank == X::rank && Y::rank == sizeof...(Perm), "one axis of x for each of y");
   transpose_axis<0, Perm...>(y, x);
}

} // namespace sofie

SOFIE_END

#endif
