/// \file
/// Where the largest elements are, which elements differ, which are wanted.
///
/// NaN is larger than any number where elements are ordered, as in NumPy. Vectors lie along the
/// middle axis of [outer, n, inner].
#ifndef SOFIE_KERNELS_SELECTION_HXX
#define SOFIE_KERNELS_SELECTION_HXX

#include "sofie/kernels/selection/top_lanes.hxx"
#include "sofie/session/owned.hxx"
#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

// ArgMax, ArgMin, Hardmax --------------------------------------------------------------------------

/// Whether, coming later, the first is chosen instead of the second. `Last`: equal ones are, too.
template <bool Max, bool Last, class V>
SOFIE_INLINE auto is_better(V a, V b)
{
   if constexpr (Last)
      return (Max ? a >= b : a <= b) | (a != a);
   else
      return (Max ? a > b : a < b) | ((a != a) & (b == b));
}

/// The types in which elements are compared, and counted beside them in packs of the same size.
template <class T>
using Compared = std::conditional_t<sizeof(T) < 4, std::int32_t, T>;

template <class T>
using ComparedPack = Pack<Compared<T>>;

template <class T>
SOFIE_INLINE ComparedPack<T> compared(const T *from, Size count)
{
   constexpr int n = lanes<Compared<T>>;
   if constexpr (sizeof(T) < 4)
      return convert<Compared<T>>(load_some<n>(from, count));
   else
      return load_some<n>(from, count);
}

/// Puts elements that come later and are better in the place of others, with their positions.
template <bool Max, bool Last, class V>
SOFIE_INLINE void choose(V &best, MaskOf<V> &at, V v, MaskOf<V> positions)
{
   const MaskOf<V> better = is_better<Max, Last>(v, best);
   best = select<V>(better, v, best);
   at = select<MaskOf<V>>(better, positions, at);
}

/// The positions of the best elements of `used` vectors side by side.
template <bool Max, bool Last, class T>
SOFIE_INLINE MaskOf<ComparedPack<T>> best_of_columns(const T *x, Size n, Size inner, Size used)
{
   using V = ComparedPack<T>;
   using I = MaskOf<V>;
   V best = compared(x, used);
   I at{};
   for (Size i = 1; i < n; ++i) {
      choose<Max, Last>(best, at, compared(x + i * inner, used), splat<I>(static_cast<ElementOf<I>>(i)));
   }
   return at;
}

/// Of two elements the better one, of two positions the larger or the smaller one.
template <bool Max>
struct BestOfLanes {
   template <class V>
   SOFIE_INLINE static V combined(V a, V b)
   {
      return select<V>((Max ? a > b : a < b) | (a != a), a, b);
   }
};

/// The position of the best one of all lanes; `at` says where each is from.
template <bool Max, bool Last, class V>
SOFIE_INLINE Size best_of_lanes(V best, MaskOf<V> at)
{
   using I = MaskOf<V>;
   const V wanted = splat<V>(fold_lanes<BestOfLanes<Max>>(best));
   const I others = splat<I>(Last ? -1 : static_cast<ElementOf<I>>(~std::make_unsigned_t<ElementOf<I>>{0} / 2));
   return fold_lanes<BestOfLanes<Last>>(select<I>((best == wanted) | (best != best), at, others));
}

/// The position of the best one of `n` neighbours.
template <bool Max, bool Last, class T>
SOFIE_KERNEL Size best_of_row(const T *x, Size n)
{
   using V = ComparedPack<T>;
   using I = MaskOf<V>;
   constexpr int w = width<V>;
   const I number = lane_numbers<V>();
   if (n < w) {
      // In lanes without an element is the first one again.
      const I exists = number < static_cast<ElementOf<I>>(n);
      return best_of_lanes<Max, Last>(select<V>(exists, compared(x, n), splat<V>(static_cast<Compared<T>>(*x))),
                                      number & exists);
   }
   V best = compared(x, w);
   I at = number, now = number;
   SOFIE_UNROLL(4)
   for (Size i = w; i + w <= n; i += w) {
      now += splat<I>(w);
      choose<Max, Last>(best, at, compared(x + i, w), now);
   }
   // The last pack begins within the one before.
   if (n % w)
      choose<Max, Last>(best, at, compared(x + n - w, w), number + splat<I>(static_cast<ElementOf<I>>(n - w)));
   return best_of_lanes<Max, Last>(best, at);
}

/// The positions of the best elements of so few columns that several rows of them fit into a register.
template <bool Max, bool Last, class T>
SOFIE_KERNEL MaskOf<ComparedPack<T>> best_of_few_columns(const T *x, Size n, Size inner)
{
   using V = ComparedPack<T>;
   using I = MaskOf<V>;
   const I number = lane_numbers<V>();
   const Size together = Size{width<V>} / inner, used = together * inner, whole = n / together * together;
   I row{};
   for (Size l = inner; l < used; ++l)
      row[l] = row[l - inner] + 1;
   V best = compared(x, used);
   I at = row;
   for (Size i = together; i < whole; i += together)
      choose<Max, Last>(best, at, compared(x + i * inner, used), row + splat<I>(static_cast<ElementOf<I>>(i)));
   const I in_rest = number < static_cast<ElementOf<I>>((n - whole) * inner);
   const V rest = compared(x + whole * inner, (n - whole) * inner);
   choose<Max, Last>(best, at, select<V>(in_rest, rest, best),
                     select<I>(in_rest, row + splat<I>(static_cast<ElementOf<I>>(whole)), at));
   I column = number - row * static_cast<ElementOf<I>>(inner), positions{};
   for (Size l = used; l < width<V>; ++l)
      column[l] = -1;
   for (Size j = 0; j < inner; ++j) {
      const I mine = column == static_cast<ElementOf<I>>(j);
      positions[j] = static_cast<ElementOf<I>>(best_of_lanes<Max, Last>(
         select<V>(mine, best, splat<V>(best[j])), select<I>(mine, at, splat<I>(at[j]))));
   }
   return positions;
}

inline void require_some(Size n)
{
   if (n == 0)
      throw std::invalid_argument("the largest or smallest one of no elements");
   if (n > 0x7fffffff)
      throw std::invalid_argument("more than 2^31 elements to choose from");
}

/// What is done with the position of the best one of x[o, :, j].
struct WritePosition {
   std::int64_t *y;
   Size inner;
   SOFIE_INLINE void operator()(Size o, Size j, Size at) const { y[o * inner + j] = at; }
};
template <class T>
struct MarkElement {
   T *y;
   Size n, inner;
   SOFIE_INLINE void operator()(Size o, Size j, Size at) const { y[(o * n + at) * inner + j] = T{1}; }
};

template <bool Max, bool Last, class T, class F>
SOFIE_KERNEL void best_positions(const F &found, const T *x, Size outer, Size n, Size inner)
{
   constexpr int w = lanes<Compared<T>>;
   if (outer * inner == 0)
      return;
   require_some(n);
   const bool few = 2 * inner <= w && n * inner >= 4 * w;
   for (Size o = 0; o < outer; ++o, x += n * inner) {
      if (inner == 1) {
         found(o, 0, best_of_row<Max, Last>(x, n));
         continue;
      }
      for (Size j = 0; j < inner; j += w) {
         const Size used = inner - j < w ? inner - j : w;
         const auto at =
            few ? best_of_few_columns<Max, Last>(x, n, inner) : best_of_columns<Max, Last>(x + j, n, inner, used);
         for (Size l = 0; l < used; ++l)
            found(o, j + l, at[l]);
      }
   }
}

/// y[o, j] = the i for which x[o, i, j] is best
template <bool Max, bool Last, class Y, class X>
SOFIE_INLINE void arg_best(Y y, X x)
{
   const Size inner = x.template extent<2>();
   best_positions<Max, Last>(WritePosition{y.data(), inner}, x.data(), x.template extent<0>(), x.template extent<1>(),
                             inner);
}

/// y[o, i, j] = 1 where x[o, i, j] is the first one of the largest, else 0
template <class Y, class X>
SOFIE_INLINE void hardmax(Y y, X x)
{
   using T = typename Y::Element;
   const Size n = x.template extent<1>(), inner = x.template extent<2>();
   __builtin_memset(y.data(), 0, static_cast<std::size_t>(y.size()) * sizeof(T));
   if (n > 0)
      best_positions<true, false>(MarkElement<T>{y.data(), n, inner}, x.data(), x.template extent<0>(), n, inner);
}

// TopK ---------------------------------------------------------------------------------------------

__extension__ typedef unsigned __int128 UInt128;

/// An element and its position in one number: what is selected first, has the larger one. So all
/// are different, equal elements in the order of their positions.
template <class T>
struct SortKey {
   using Unsigned =
      std::conditional_t<sizeof(T) == 1, std::uint8_t,
                         std::conditional_t<sizeof(T) == 2, std::uint16_t,
                                            std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;
   using Position = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
   using Key = std::conditional_t<sizeof(T) == 8, UInt128, std::uint64_t>;
   static constexpr int shift = 8 * static_cast<int>(sizeof(Position));

   /// In the order of the elements; 0 and -0 are equal, and NaN is the largest.
   SOFIE_INLINE static Unsigned ordered(T value)
   {
      constexpr Unsigned sign = static_cast<Unsigned>(Unsigned{1} << (8 * sizeof(T) - 1));
      Unsigned u;
      if constexpr (std::is_floating_point_v<T>) {
         if (value != value)
            return static_cast<Unsigned>(~Unsigned{0});
         value += T{0};
         __builtin_memcpy(&u, &value, sizeof(u));
         return (u & sign) ? static_cast<Unsigned>(~u) : static_cast<Unsigned>(u | sign);
      } else {
         __builtin_memcpy(&u, &value, sizeof(u));
         return std::is_signed_v<T> ? static_cast<Unsigned>(u ^ sign) : u;
      }
   }
   template <bool Largest>
   SOFIE_INLINE static Key of(T value, Size position)
   {
      const Unsigned u = ordered(value);
      const Key first = Largest ? u : static_cast<Unsigned>(~u);
      return (first << shift) | static_cast<Position>(~static_cast<Position>(position));
   }
   SOFIE_INLINE static Size position(Key key)
   {
      return static_cast<Size>(static_cast<Position>(~static_cast<Position>(key)));
   }
};

/// Puts a key into a list that is sorted, the largest first; the last of `count` keys falls out.
template <class K>
SOFIE_INLINE void insert_sorted(K *list, Size count, K key)
{
   Size j = count - 1;
   for (; j > 0 && list[j - 1] < key; --j)
      list[j] = list[j - 1];
   list[j] = key;
}

/// The elements between which and the end fewer than a pack are left, from number i on: what is larger than the last
/// key of a full list is put into it. Packs without such elements are passed over.
template <bool Largest, class T, class K>
SOFIE_INLINE Size select_packs(K *list, const T *x, Size i, Size n, Size k)
{
   using Key = SortKey<T>;
   constexpr int w = lanes<T>;
   for (; i + w <= n; i += w) {
      // The keys of lanes have a sign.
      const auto least = static_cast<std::int32_t>(static_cast<std::uint32_t>(list[k - 1] >> Key::shift) ^ 0x80000000u);
      if (sum_of_lanes(lane_keys<Largest, T>(load<w>(x + i)) > splat<Pack<std::int32_t>>(least)) == 0)
         continue;
      for (Size j = i; j < i + w; ++j) {
         const K key = Key::template of<Largest>(x[j], j);
         if (list[k - 1] < key)
            insert_sorted(list, k, key);
      }
   }
   return i;
}

/// The `k` largest keys of a vector and others, the largest first, in the memory of 2 n keys. Where many are not wanted,
/// the highest bits say from which value on they are. The rest is sorted byte by byte, the lowest first: keys with the
/// same byte stay in their order, which at first is that of their positions.
template <bool Largest, class T, class K>
SOFIE_KERNEL const K *sorted_keys(K *keys, const T *x, Size n, Size inner, Size k)
{
   using Key = SortKey<T>;
   constexpr int bytes = static_cast<int>(sizeof(T)), bits = bytes == 1 ? 8 : 12, lower = Key::shift + 8 * bytes - bits;
   std::uint32_t heads[1 << bits], counts[bytes][256];
   std::uint32_t least = 0;
   if (8 * k < n) {
      __builtin_memset(heads, 0, sizeof(heads));
      for (Size i = 0; i < n; ++i)
         ++heads[static_cast<std::uint32_t>(Key::template of<Largest>(x[i * inner], i) >> lower)];
      least = (1 << bits) - 1;
      for (Size found = heads[least]; found < k; found += heads[--least])
         ;
   }
   __builtin_memset(counts, 0, sizeof(counts));
   Size count = 0;
   for (Size i = 0; i < n; ++i) {
      const K key = Key::template of<Largest>(x[i * inner], i);
      if (static_cast<std::uint32_t>(key >> lower) < least)
         continue;
      keys[count++] = key;
   SOFIE_UNROLL_ALL
      for (int b = 0; b < bytes; ++b)
         ++counts[b][static_cast<std::uint8_t>(key >> (Key::shift + 8 * b))];
   }
   K *from = keys, *to = keys + n;
   for (int b = 0; b < bytes; ++b) {
      std::uint32_t *const places = counts[b];
      const int shift = Key::shift + 8 * b;
      if (places[static_cast<std::uint8_t>(from[0] >> shift)] == count)
         continue; // It is the same in all of them.
      std::uint32_t place = 0;
      for (int value = 255; value >= 0; --value) {
         const std::uint32_t some = places[value];
         places[value] = place;
         place += some;
      }
      for (Size i = 0; i < count; ++i)
         to[places[static_cast<std::uint8_t>(from[i] >> shift)]++] = from[i];
      K *const read = from;
      from = to;
      to = read;
   }
   return from;
}

/// The `k` largest keys of a vector, the largest first, which are few.
template <bool Largest, class T, class K>
SOFIE_INLINE void select_keys(K *list, const T *x, Size n, Size inner, Size k)
{
   using Key = SortKey<T>;
   for (Size i = 0; i < k; ++i)
      insert_sorted(list, i + 1, Key::template of<Largest>(x[i * inner], i));
   Size next = k;
   if constexpr (has_top_lanes<T>)
      if (inner == 1)
         next = select_packs<Largest>(list, x, k, n, k);
   for (Size i = next; i < n; ++i) {
      const K key = Key::template of<Largest>(x[i * inner], i);
      if (list[k - 1] < key)
         insert_sorted(list, k, key);
   }
}

/// How many elements are few: there is memory for all keys twice where there are more.
inline constexpr Size few_keys = 64;

template <bool Largest, class T>
SOFIE_KERNEL void select_top(T *values, std::int64_t *indices, std::int64_t *work, const T *x, Size outer, Size n,
                             Size inner, Size k)
{
   using Key = SortKey<T>;
   using K = typename Key::Key;
   if (k < 0 || k > n)
      throw std::invalid_argument("TopK of more elements than there are");
   if (sizeof(T) < 8 && n > 0xffffffff)
      throw std::invalid_argument("TopK of more than 2^32 elements");
   K few[few_keys];
   if (k == 0)
      return;
   if constexpr (has_top_lanes<T>)
      if (inner == 1 && outer >= lanes<T> / 2 && is_for_top_lanes(k, n))
         return top_of_rows<Largest>(values, indices, x, outer, n, k);
   if constexpr (has_top_lanes<T>)
      if ((inner >= lanes<T> / 2 || n > top_lanes_short) && inner > 1 && is_for_top_lanes(k, n))
         return top_of_columns<Largest>(values, indices, x, {{outer, n, inner}}, k);
   for (Size o = 0; o < outer; ++o)
      for (Size j = 0; j < inner; ++j) {
         const T *const from = x + o * n * inner + j;
         const K *first = few;
         if (k <= few_keys)
            select_keys<Largest>(few, from, n, inner, k);
         else
            first = sorted_keys<Largest>(reinterpret_cast<K *>(work), from, n, inner, k);
         for (Size r = 0; r < k; ++r) {
            const Size at = Key::position(first[r]);
            values[(o * k + r) * inner + j] = from[at * inner];
            if (indices)
               indices[(o * k + r) * inner + j] = at;
         }
      }
}

/// The first k of the elements along the middle axis, in descending (or ascending) order, and their positions if wanted.
template <bool Largest, class Y, class I, class W, class X>
SOFIE_INLINE void top_k(Y values, I indices, W work, X x)
{
   select_top<Largest>(values.data(), data_of(indices), work.data(), x.data(), x.template extent<0>(),
                       x.template extent<1>(), x.template extent<2>(), values.template extent<1>());
}

/// The same for a k that is known at run time.
template <bool Largest, class T, int Rank, class I, class W, class X, class K>
SOFIE_INLINE void top_k_runtime(Owned<T, Rank> &values, I &&indices, W work, X x, K k, Sizes<Rank> shape, Size axis)
{
   const Size count = static_cast<Size>(k.data()[0]);
   if (count < 0 || count > shape[axis])
      throw std::invalid_argument("TopK of more elements than there are");
   shape[axis] = count;
   values.resize(shape);
   select_top<Largest>(values.data(), resized_data(indices, shape), work.data(), x.data(), x.template extent<0>(),
                       x.template extent<1>(), x.template extent<2>(), count);
}

// NonZero, Compress --------------------------------------------------------------------------------

template <class T>
SOFIE_KERNEL Size count_nonzero(const T *x, Size size)
{
   Size count = 0;
   for (Size i = 0; i < size; ++i)
      count += x[i] != T{} ? 1 : 0;
   return count;
}

/// y[a, c] = where along axis a the c-th element is that is not 0
template <class T>
SOFIE_KERNEL void write_nonzero(std::int64_t *y, const T *x, Size size, Size count, const Size *shape, int rank)
{
   Size index[65] = {};
   Size c = 0;
   for (Size i = 0; i < size; ++i) {
      if (x[i] != T{}) {
         for (int a = 0; a < rank; ++a)
            y[a * count + c] = index[a];
         ++c;
      }
      for (int a = rank - 1; a >= 0; --a) {
         if (++index[a] < shape[a])
            break;
         index[a] = 0;
      }
   }
}

template <class X, int Rank>
SOFIE_INLINE void nonzero(Owned<std::int64_t, 2> &y, X x, const Sizes<Rank> &shape)
{
   static_assert(Rank <= 64, "so many axes are counted");
   const Size size = x.size(), count = count_nonzero(x.data(), size);
   y.resize({{Rank, count}});
   write_nonzero(y.data(), x.data(), size, count, shape.values, Rank);
}

template <class T>
SOFIE_KERNEL void copy_wanted(T *y, const T *x, const bool *wanted, Size count, Size outer, Size n, Size inner)
{
   for (Size o = 0; o < outer; ++o)
      for (Size i = 0; i < count; ++i)
         if (wanted[i]) {
            __builtin_memcpy(static_cast<void *>(y), x + (o * n + i) * inner,
                             static_cast<std::size_t>(inner) * sizeof(T));
            y += inner;
         }
}

/// The slices x[:, i, :] for which the condition holds; it may be shorter or longer than the axis.
template <class T, int Rank, class X, class C>
SOFIE_INLINE void compress(Owned<T, Rank> &y, X x, C wanted, Sizes<Rank> shape, Size axis)
{
   const Size n = x.template extent<1>();
   const Size count = wanted.size() < n ? wanted.size() : n;
   shape[axis] = count_nonzero(wanted.data(), count);
   y.resize(shape);
   copy_wanted(y.data(), static_cast<const T *>(x.data()), wanted.data(), count, x.template extent<0>(), n,
               x.template extent<2>());
}

// Unique -------------------------------------------------------------------------------------------

/// The slices x[:, i, :] in the order of their elements, the first one first.
template <class T>
struct Slices {
   const T *x;
   Size outer, n, inner;

   /// Less than, equal to, or larger than 0, as slice a is before b, equal to it, or behind it.
   SOFIE_INLINE int compare(Size a, Size b) const
   {
      for (Size o = 0; o < outer; ++o) {
         const T *const p = x + (o * n + a) * inner;
         const T *const q = x + (o * n + b) * inner;
         for (Size j = 0; j < inner; ++j) {
            const bool p_nan = p[j] != p[j], q_nan = q[j] != q[j];
            if (p_nan != q_nan)
               return p_nan ? 1 : -1;
            if (p[j] < q[j])
               return -1;
            if (q[j] < p[j])
               return 1;
         }
      }
      return 0;
   }
};

/// Sorts positions by what they name, equal ones as they were; the result is in `order`.
template <class Items>
SOFIE_KERNEL void merge_sort(std::int64_t *order, std::int64_t *spare, Size count, const Items &items)
{
   std::int64_t *from = order, *to = spare;
   for (Size length = 1; length < count; length *= 2) {
      for (Size begin = 0; begin < count; begin += 2 * length) {
         const Size middle = begin + length < count ? begin + length : count;
         const Size end = middle + length < count ? middle + length : count;
         Size left = begin, right = middle;
         for (Size at = begin; at < end; ++at) {
            const bool take_left = left < middle && (right >= end || items.compare(from[left], from[right]) <= 0);
            to[at] = take_left ? from[left++] : from[right++];
         }
      }
      std::int64_t *const swapped = from;
      from = to;
      to = swapped;
   }
   if (from != order)
      for (Size i = 0; i < count; ++i)
         order[i] = from[i];
}

/// Of each group of equal slices the number, in `number[slice]`; `order` becomes the first slice of
/// each group. The result is how many groups there are.
template <class T>
SOFIE_KERNEL Size group_slices(std::int64_t *order, std::int64_t *number, std::int64_t *first, const Slices<T> &slices,
                               bool is_sorted)
{
   const Size n = slices.n;
   for (Size i = 0; i < n; ++i)
      order[i] = i;
   merge_sort(order, number, n, slices);
   Size groups = 0;
   for (Size i = 0; i < n; ++i) {
      const bool is_new = i == 0 || slices.compare(order[i - 1], order[i]) != 0;
      first[order[i]] = is_new ? order[i] : first[order[i - 1]];
      if (is_new && is_sorted)
         number[order[i]] = groups++;
   }
   if (!is_sorted)
      for (Size i = 0; i < n; ++i)
         if (first[i] == i)
            number[i] = groups++;
   for (Size i = 0; i < n; ++i) {
      number[i] = number[first[i]];
      if (first[i] == i)
         order[number[i]] = i;
   }
   return groups;
}

template <class T>
SOFIE_KERNEL void copy_slices(T *y, const Slices<T> &slices, const std::int64_t *which, Size count)
{
   for (Size o = 0; o < slices.outer; ++o)
      for (Size g = 0; g < count; ++g, y += slices.inner)
         __builtin_memcpy(y, slices.x + (o * slices.n + which[g]) * slices.inner,
                          static_cast<std::size_t>(slices.inner) * sizeof(T));
}

/// The axis of a tensor along which slices are compared, and whether those that differ are sorted.
template <int Rank>
struct UniqueAxis {
   Sizes<Rank> shape;
   Sizes<2> how;

   SOFIE_INLINE bool is_sorted() const { return how[1] != 0; }
};

/// The slices that differ; and if wanted where each is first, which one each slice is, and how often each occurs.
template <class T, int Rank, class I, class N, class C, class W, class X>
SOFIE_INLINE void unique(Owned<T, Rank> &y, I &&indices, N &&inverse, C &&counts, W work, X x,
                         const UniqueAxis<Rank> &axis)
{
   const Slices<T> slices{x.data(), x.template extent<0>(), x.template extent<1>(), x.template extent<2>()};
   std::int64_t *const order = work.data(), *const number = order + slices.n, *const first = number + slices.n;
   const Size groups = group_slices(order, number, first, slices, axis.is_sorted());
   Sizes<Rank> shape = axis.shape;
   shape[axis.how[0]] = groups;
   y.resize(shape);
   copy_slices(y.data(), slices, order, groups);
   if (std::int64_t *const to = resized_data(indices, Sizes<1>{{groups}}))
      __builtin_memcpy(to, order, static_cast<std::size_t>(groups) * sizeof(*to));
   if (std::int64_t *const to = resized_data(inverse, Sizes<1>{{slices.n}}))
      __builtin_memcpy(to, number, static_cast<std::size_t>(slices.n) * sizeof(*to));
   if (std::int64_t *const to = resized_data(counts, Sizes<1>{{groups}})) {
      __builtin_memset(to, 0, static_cast<std::size_t>(groups) * sizeof(*to));
      for (Size i = 0; i < slices.n; ++i)
         ++to[number[i]];
   }
}

// NonMaxSuppression --------------------------------------------------------------------------------

struct Box {
   double low[2], high[2];
};

/// Two opposite corners, or the centre and the size.
SOFIE_INLINE Box box_at(const float *from, bool is_centred)
{
   Box box;
   for (int a = 0; a < 2; ++a) {
      const double p = from[a], q = from[a + 2];
      box.low[a] = is_centred ? p - q / 2 : p < q ? p : q;
      box.high[a] = is_centred ? p + q / 2 : p < q ? q : p;
   }
   return box;
}

/// Whether the area that two boxes share is more than `threshold` of what they cover together.
SOFIE_INLINE bool overlap(const Box &a, const Box &b, double threshold)
{
   double shared = 1, first = 1, second = 1;
   for (int i = 0; i < 2; ++i) {
      const double low = a.low[i] > b.low[i] ? a.low[i] : b.low[i];
      const double high = a.high[i] < b.high[i] ? a.high[i] : b.high[i];
      if (!(high > low))
         return false;
      shared *= high - low;
      first *= a.high[i] - a.low[i];
      second *= b.high[i] - b.low[i];
   }
   const double together = first + second - shared;
   return first > 0 && second > 0 && together > 0 && shared / together > threshold;
}

/// Boxes by their scores, the highest first.
struct Scores {
   const float *scores;
   SOFIE_INLINE int compare(Size a, Size b) const { return scores[a] > scores[b] ? -1 : scores[a] < scores[b] ? 1 : 0; }
};

struct Suppression {
   Size most;        ///< so many boxes of each class and batch
   double threshold; ///< of the overlap
   double least;     ///< only scores above it
   bool has_least;
   bool is_centred;
};

/// The boxes of one class in one batch that are kept; how many.
inline SOFIE_KERNEL Size suppress(std::int64_t *kept, std::int64_t *order, std::int64_t *spare, const float *boxes,
                                  const float *scores, Size n, const Suppression &how)
{
   Size candidates = 0;
   for (Size i = 0; i < n; ++i)
      if (how.has_least ? static_cast<double>(scores[i]) > how.least : scores[i] == scores[i])
         order[candidates++] = i;
   merge_sort(order, spare, candidates, Scores{scores});
   Size count = 0;
   for (Size c = 0; c < candidates && count < how.most; ++c) {
      const Box box = box_at(boxes + 4 * order[c], how.is_centred);
      bool is_kept = true;
      for (Size k = 0; k < count && is_kept; ++k)
         is_kept = !overlap(box, box_at(boxes + 4 * kept[k], how.is_centred), how.threshold);
      if (is_kept)
         kept[count++] = order[c];
   }
   return count;
}

/// y[c] = (batch, class, box) of each box that is kept. The work holds, for each batch and class,
/// the boxes kept and behind them -1, then the order of boxes twice.
inline SOFIE_KERNEL void suppress_all(Owned<std::int64_t, 2> &y, std::int64_t *work, const float *boxes,
                                      const float *scores, Size batches, Size classes, Size n, const Suppression &how)
{
   std::int64_t *const order = work + batches * classes * n;
   Size total = 0;
   for (Size b = 0; b < batches; ++b)
      for (Size c = 0; c < classes; ++c) {
         const Size row = b * classes + c;
         std::int64_t *const kept = work + row * n;
         const Size count = suppress(kept, order, order + n, boxes + b * n * 4, scores + row * n, n, how);
         if (count < n)
            kept[count] = -1;
         total += count;
      }
   y.resize({{total, 3}});
   std::int64_t *to = y.data();
   for (Size row = 0; row < batches * classes; ++row)
      for (Size i = 0; i < n && work[row * n + i] >= 0; ++i, to += 3) {
         to[0] = row / classes;
         to[1] = row % classes;
         to[2] = work[row * n + i];
      }
}

/// Of the scalars behind boxes and scores `HasMost`, ... say which are there.
template <bool HasMost, bool HasThreshold, bool HasLeast, class W, class B, class S, class... Given>
SOFIE_INLINE void non_max_suppression(Owned<std::int64_t, 2> &y, W work, Size is_centred, B boxes, S scores,
                                      Given... given)
{
   const double values[] = {static_cast<double>(given.data()[0])..., 0};
   const Size n = boxes.template extent<1>();
   const double most = HasMost ? values[0] : 0;
   const Suppression how{most > static_cast<double>(n) ? n
                         : most > 0                    ? static_cast<Size>(most)
                                                       : 0,
                         HasThreshold ? values[HasMost] : 0, HasLeast ? values[HasMost + HasThreshold] : 0, HasLeast,
                         is_centred != 0};
   suppress_all(y, work.data(), boxes.data(), scores.data(), scores.template extent<0>(), scores.template extent<1>(),
                n, how);
}

} // namespace sofie

SOFIE_END

#endif
