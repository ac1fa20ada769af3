/// \file
/// map: a function of packs, applied element by element with NumPy's broadcasting.
#ifndef SOFIE_KERNELS_ELEMENTWISE_MAP_HXX
#define SOFIE_KERNELS_ELEMENTWISE_MAP_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// Whether a function has a form for arrays, `array(y, x..., count)`, that is faster than one pack after the other.
template <class F, class T>
inline constexpr bool has_array_form = false;

/// Whether a function is so short that what is around it takes as long: packs are done together, as Cling writes to
/// memory what is in registers when a block ends.
template <class F>
inline constexpr bool is_short = false;

/// The same of results of type `T`: integers have no division of packs.
template <class F, class T>
inline constexpr bool is_short_of = is_short<F>;

/// y = f(x) for `count` elements; out of line, so that a function is compiled once.
template <class F, class T>
SOFIE_KERNEL void apply_function(const F &f, T *y, const T *x, Size count)
{
   if constexpr (has_array_form<F, T>) {
      f.array(y, x, count);
      return;
   }
   constexpr int n = lanes<T>;
   Size i = 0;
   for (; i + n <= count; i += n)
      store(y + i, f(load<n>(x + i)));
   if (i < count)
      store_some(y + i, f(load_some<n>(x + i, count - i)), count - i);
}

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

/// What a row reads of an input, `N` elements at a time: those that stand there, or the only one again and again.
template <int N, Size Extent, class T>
struct Source {
   T *from;

   SOFIE_INLINE explicit Source(T *first) : from(first) {}
   template <int Some = N>
   SOFIE_INLINE auto pack(Size i) const
   {
      return load<Some>(from + i);
   }
   SOFIE_INLINE auto some(Size i, Size count) const { return load_rest<N>(from + i, count); }
   SOFIE_INLINE Source from_on(Size i) const { return Source(from + i); }
};
template <int N, class T>
struct Source<N, 1, T> {
   ElementOf<PackN<std::remove_const_t<T>, N>> only;

   SOFIE_INLINE explicit Source(T *first) : only(load<1>(first)[0]) {}
   template <int Some = N>
   SOFIE_INLINE auto pack(Size) const
   {
      return splat<PackN<std::remove_const_t<T>, Some>>(only);
   }
   SOFIE_INLINE auto some(Size, Size) const { return pack(0); }
   SOFIE_INLINE Source from_on(Size) const { return *this; }
};

/// How many elements a register holds of the widest of these types.
template <class T, class... More>
constexpr int common_lanes()
{
   int fewest = lanes<T>;
   ((fewest = lanes<More> < fewest ? lanes<More> : fewest), ...);
   return fewest;
}

/// `Packs` packs of a row. All are read before one is written: a load waits for the stores before it whose addresses
/// are the same but for a multiple of 4096, which can make a loop four times as slow.
template <int Packs, int N, class F, class T, class... Sources>
SOFIE_INLINE void map_packs(const F &f, T *y, Size i, const Sources &...x)
{
   PackN<T, N> results[std::size_t{Packs}];
   SOFIE_UNROLL_ALL
   for (int p = 0; p < Packs; ++p)
      results[p] = storable<T>(f(x.pack(i + p * N)...));
   SOFIE_UNROLL_ALL
   for (int p = 0; p < Packs; ++p)
      store(y + i + p * N, results[p]);
}

/// How many packs of a short function are done together, of a row that has so many: if possible, so that none is left.
constexpr int packs_together(Size packs)
{
   for (int some = 8; some >= 4; --some)
      if (packs > 0 && packs % some == 0)
         return some;
   return 8;
}

/// `Packs` packs from `i` on, and as many from `j` on, which may have some elements of the others: all are read before
/// one is written.
template <int Packs, int Lanes, class F, class T, class... Sources>
SOFIE_INLINE void map_both(const F &f, T *y, Size i, Size j, const Sources &...x)
{
   const PackN<T, Lanes> a = storable<T>(f(x.template pack<Lanes>(i)...));
   const PackN<T, Lanes> b = storable<T>(f(x.template pack<Lanes>(j)...));
   if constexpr (Packs > 1)
      map_both<Packs - 1, Lanes>(f, y, i + Lanes, j + Lanes, x...);
   store(y + i, a);
   store(y + j, b);
}

/// A pack or more of a short function. They are stored where packs begin in memory: arrays of others begin anywhere.
/// The first and the last one are read before all others, and written behind them.
template <int N, class F, class T, class... Sources>
SOFIE_INLINE void map_many(const F &f, T *y, Size count, const Sources &...x)
{
   const PackN<T, N> first = storable<T>(f(x.pack(0)...)), last = storable<T>(f(x.pack(count - N)...));
   Size i = N - static_cast<Size>(reinterpret_cast<std::uintptr_t>(y) / sizeof(T) % N);
   for (; i + 8 * N <= count; i += 8 * N)
      map_packs<8, N>(f, y, i, x...);
   for (; i + N <= count; i += N)
      store(y + i, storable<T>(f(x.pack(i)...)));
   store(y, first);
   store(y + count - N, last);
}

/// The same where it is worth more code. Cling writes to memory how far a loop is: few packs are done without one.
template <int N, int Packs = 1, class F, class T, class... Sources>
SOFIE_INLINE void map_few(const F &f, T *y, Size count, const Sources &...x)
{
   if (count <= 2 * Packs * N)
      map_both<Packs, N>(f, y, 0, count - Packs * N, x...);
   else if constexpr (Packs < 4)
      map_few<N, 2 * Packs>(f, y, count, x...);
   else
      map_many<N>(f, y, count, x...);
}

/// Up to `2 * Most` elements, without a part of a pack.
template <int Most, int Lanes = 1, class F, class T, class... Sources>
SOFIE_INLINE void map_pieces(const F &f, T *y, Size count, const Sources &...x)
{
   if (Lanes == Most || count <= 2 * Lanes)
      map_both<1, Lanes>(f, y, 0, count - Lanes, x...);
   else if constexpr (Lanes < Most)
      map_pieces<Most, 2 * Lanes>(f, y, count, x...);
}

/// Up to a whole pack. Where there are no masks, a pack of a short function would wait for its pieces.
template <int N, class F, class T, class... Sources>
SOFIE_INLINE void map_some(const F &f, T *y, Size count, const Sources &...x)
{
   if constexpr (is_short_of<F, T> && SOFIE_SIMD_BYTES < 64 && N > 1)
      map_pieces<N / 2>(f, y, count, x...);
   else
      store_rest(y, storable<T>(f(x.some(0, count)...)), count);
}

/// A row of `Extent` elements, or of any number, of which there may be `Few`.
template <int N, Size Extent, bool Few, class F, class T, class... Sources>
SOFIE_INLINE void map_sources(const F &f, T *y, Size count, const Sources &...x)
{
   Size i = 0;
   if constexpr (is_short_of<F, T> && (Extent == dyn || Extent >= 1024)) {
      // One event of one number is asked for often. Each question costs Cling a load from the stack.
      if constexpr (Few)
         if (count == 1)
            return store(y, storable<T>(f(x.template pack<1>(0)...)));
      if (count > N) {
         if constexpr (Few)
            return map_few<N>(f, y, count, x...);
         else
            return map_many<N>(f, y, count, x...);
      }
   } else {
      constexpr int together = is_short_of<F, T> ? packs_together(Extent / N) : 1;
      for (; i + together * N <= count; i += together * N)
         map_packs<together, N>(f, y, i, x...);
      if constexpr (together > 1)
         for (; i + N <= count; i += N)
            store(y + i, storable<T>(f(x.pack(i)...)));
   }
   if (i < count)
      map_some<N>(f, y + i, count - i, x.from_on(i)...);
}

template <bool Few, class F, class Y, class... X>
SOFIE_INLINE void map_row(const F &f, const Y &y, const X &...x)
{
   using T = typename Y::Element;
   constexpr int axis = Y::rank - 1;
   constexpr int n = common_lanes<T, typename X::Element...>();
   const Size count = y.template extent<axis>();
   if constexpr (has_array_form<F, T> && ((X::template static_extent<axis> != 1) && ...)) {
      f.array(y.data(), x.data()..., count);
   } else {
      const F mine = f; // Its members stay what they are, whatever is written.
      map_sources<n, Y::template static_extent<axis>, Few>(
         mine, y.data(), count, Source<n, X::template static_extent<axis>, typename X::Element>(x.data())...);
   }
}

/// Whether rows of an input follow each other, or have one number each.
template <class X>
inline constexpr bool has_row_numbers = X::rank >= 2 && X::template static_extent<X::rank - 1> == 1;
template <class X>
constexpr bool follows_rows()
{
   if constexpr (X::rank >= 2)
      return X::template static_extent<X::rank - 2> != 1;
   return false;
}

/// Elements of short rows that are done together.
inline constexpr Size rows_together = 256;

/// What rows that follow each other read of an input: itself, or the number of each as often as a row is long.
template <int N, class T, bool Numbers>
struct RowsSource {
   const T *from;

   SOFIE_INLINE explicit RowsSource(const T *first) : from(first) {}
   SOFIE_INLINE const T *next(Size rows, Size count)
   {
      const T *const now = from;
      from += rows * count;
      return now;
   }
};
template <int N, class T>
struct RowsSource<N, T, true> {
   const T *from;
   T spread[rows_together + N];

   SOFIE_INLINE explicit RowsSource(const T *first) : from(first) {}
   SOFIE_INLINE const T *next(Size rows, Size count)
   {
      for (Size r = 0; r < rows; ++r)
         store(spread + r * count, splat<PackN<T, N>>(load<1>(from + r)[0]));
      from += rows;
      return spread;
   }
};

/// Rows that are shorter than a pack, of which some inputs have one number each.
template <int N, class F, class T, class... Sources>
SOFIE_KERNEL void map_short_rows(const F &f, T *y, Size rows, Size count, Sources... x)
{
   const Size most = rows_together / count;
   for (Size r = 0; r < rows; r += most) {
      const Size some = rows - r < most ? rows - r : most;
      map_sources<N, dyn, false>(f, y + r * count, some * count,
                          Source<N, dyn, const std::remove_reference_t<decltype(*x.from)>>(x.next(some, count))...);
   }
}

template <int Axis, bool Few, class F, class Y, class... X>
SOFIE_INLINE void map_axis(const F &f, const Y &y, const X &...x)
{
   if constexpr (Axis == Y::rank - 1) {
      map_row<Few>(f, y, x...);
   } else {
      const Size count = y.template extent<Axis>();
      if constexpr (Axis == Y::rank - 2 && (has_row_numbers<X> || ...) && (follows_rows<X>() && ...)) {
         using T = typename Y::Element;
         constexpr int n = common_lanes<T, typename X::Element...>();
         const Size row = y.template extent<Axis + 1>();
         if (row > 0 && row < n)
            return map_short_rows<n>(f, y.data(), count, row,
                                     RowsSource<n, std::remove_const_t<typename X::Element>, has_row_numbers<X>>(
                                        x.data())...);
      }
      for (Size i = 0; i < count; ++i)
         map_axis<Axis + 1, Few>(f, y.shifted(i * y.template stride<Axis>()),
                                 x.shifted(i * x.template stride<Axis>())...);
   }
}

/// y[i...] = f(x[i...], ...). All views have y's rank; an axis of an input is y's or a static 1.
template <class F, class Y, class... X>
SOFIE_KERNEL void map(const F &f, Y y, X... x)
{
   static_assert(((X::rank == Y::rank) && ...), "broadcast shapes are aligned before the call");
   static_assert(Y::rank >= 1, "a scalar is one element");
   map_axis<0, false>(f, y, x...);
}

/// The same for a network that takes as long as a call: it becomes part of its caller.
template <class F, class Y, class... X>
SOFIE_INLINE void map_inlined(const F &f, const Y &y, const X &...x)
{
   map_axis<0, true>(f, y, x...);
}

} // namespace sofie

SOFIE_END

#endif
