/// \file
/// map: a function of packs, applied element by element with NumPy's broadcasting.
#ifndef SOFIE_KERNELS_MAP_HXX
#define SOFIE_KERNELS_MAP_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// Whether a function has a form for arrays, `array(y, x, count)`, that is faster than one pack after the other.
template <class F, class T>
inline constexpr bool has_array_form = false;

/// Whether a function is so short that what is around it takes as long: a loop has four of them, as Cling writes
/// to memory what is in registers when a block ends.
template <class F>
inline constexpr bool is_short = false;

/// y = x
struct Identity {
   template <class V>
   SOFIE_INLINE V operator()(V x) const
   {
      return x;
   }
};

/// What a functor returned, in the form in which elements of type `T` are stored.
template <class T, class V>
SOFIE_INLINE PackN<T, width<V>> storable(V v)
{
   if constexpr (std::is_same_v<T, bool>)
      return __builtin_convertvector(v & 1, PackN<bool, width<V>>); // of a mask or of a bool
   else
      return v;
}

/// The next `N` elements of an input whose last axis has this extent: one element, or many.
template <int N, Size Extent, class T>
SOFIE_INLINE auto argument(T *from, Size i)
{
   using V = PackN<std::remove_const_t<T>, N>;
   if constexpr (Extent == 1)
      return splat<V>(load<1>(from)[0]);
   else
      return load<N>(from + i);
}

template <int N, Size Extent, class T>
SOFIE_INLINE auto argument_tail(T *from, Size i, Size count)
{
   if constexpr (Extent == 1)
      return argument<N, Extent>(from, i);
   else
      return load_rest<N>(from + i, count);
}

/// How many elements a register holds of the widest of these types.
template <class T, class... More>
constexpr int common_lanes()
{
   int fewest = lanes<T>;
   ((fewest = lanes<More> < fewest ? lanes<More> : fewest), ...);
   return fewest;
}

/// A whole pack of a row.
template <int N, class F, class Y, class... X>
SOFIE_INLINE void map_pack(const F &f, const Y &y, Size i, const X &...x)
{
   using T = typename Y::Element;
   store(y.data() + i, storable<T>(f(argument<N, X::template static_extent<Y::rank - 1>>(x.data(), i)...)));
}

template <class F, class Y, class... X>
SOFIE_INLINE void map_row(const F &f, const Y &y, const X &...x)
{
   using T = typename Y::Element;
   constexpr int axis = Y::rank - 1;
   constexpr int n = common_lanes<T, typename X::Element...>();
   const Size count = y.template extent<axis>();
   T *const to = y.data();
   if constexpr (has_array_form<F, T> && sizeof...(X) == 1 && ((X::template static_extent<axis> != 1) && ...)) {
      f.array(to, x.data()..., count);
      return;
   }
   Size i = 0;
   if constexpr (is_short<F>) {
      const F mine = f; // Its members stay what they are, whatever is written.
   SOFIE_UNROLL(4)
      for (; i + n <= count; i += n)
         map_pack<n>(mine, y, i, x...);
   } else {
      for (; i + n <= count; i += n)
         map_pack<n>(f, y, i, x...);
   }
   if (i < count)
      store_rest(to + i, storable<T>(f(argument_tail<n, X::template static_extent<axis>>(x.data(), i, count - i)...)),
                 count - i);
}

template <int Axis, class F, class Y, class... X>
SOFIE_INLINE void map_axis(const F &f, const Y &y, const X &...x)
{
   if constexpr (Axis == Y::rank - 1) {
      map_row(f, y, x...);
   } else {
      const Size count = y.template extent<Axis>();
      for (Size i = 0; i < count; ++i)
         map_axis<Axis + 1>(f, y.shifted(i * y.template stride<Axis>()), x.shifted(i * x.template stride<Axis>())...);
   }
}

/// y[i...] = f(x[i...], ...). All views have y's rank; an axis of an input is y's or a static 1.
template <class F, class Y, class... X>
SOFIE_KERNEL void map(const F &f, Y y, X... x)
{
   static_assert(((X::rank == Y::rank) && ...), "broadcast shapes are aligned before the call");
   static_assert(Y::rank >= 1, "a scalar is one element");
   map_axis<0>(f, y, x...);
}

} // namespace sofie

SOFIE_END

#endif
