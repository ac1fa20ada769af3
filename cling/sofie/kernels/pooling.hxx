/// \file
/// Pooling: windows that slide over planes, regions of planes, and whole planes.
#ifndef SOFIE_KERNELS_POOLING_HXX
#define SOFIE_KERNELS_POOLING_HXX

#include "sofie/kernels/pooling/rows.hxx"
#include "sofie/kernels/reduction/pieces.hxx"
#include "sofie/kernels/transpose/window_lanes.hxx"
#include "sofie/session/owned.hxx"

SOFIE_BEGIN

namespace sofie {

/// The windows along one axis: window j covers the positions j * stride - begin + t * dilation for
/// 0 <= t < kernel. Before the beginning and behind the end there are `begin` and `end` pads.
struct PoolAxis {
   Size size, count, kernel, stride, dilation, begin, end;

   SOFIE_INLINE Size start(Size j) const { return j * stride - begin; }

   /// How many t of window j have positions below `bound`.
   SOFIE_INLINE Size below(Size j, Size bound) const
   {
      const Size room = bound - start(j);
      if (room <= 0)
         return 0;
      const Size steps = (room + dilation - 1) / dilation;
      return steps < kernel ? steps : kernel;
   }

   /// How many elements of window j are counted: those that exist, and pads if asked to.
   SOFIE_INLINE Size members(Size j, bool pads) const
   {
      return pads ? below(j, size + end) - below(j, -begin) : below(j, size) - below(j, 0);
   }
};

/// The windows along all axes of a plane.
struct PoolPlane {
   static constexpr int most_axes = 8;
   PoolAxis axis[most_axes];
   /// How far apart neighbours along an axis are.
   Size apart[most_axes];
   int axes;
   Size size, count;
};

/// `numbers` are the seven of each axis, in the order of PoolAxis.
template <int N>
SOFIE_INLINE PoolPlane pool_plane(const Sizes<N> &numbers)
{
   static_assert(N % 7 == 0 && N / 7 >= 1 && N / 7 <= PoolPlane::most_axes, "seven numbers for each axis");
   PoolPlane plane{};
   plane.axes = N / 7;
   plane.size = plane.count = 1;
   for (int a = plane.axes - 1; a >= 0; --a) {
      const Size *const n = numbers.values + 7 * a;
      plane.axis[a] = PoolAxis{n[0], n[1], n[2], n[3], n[4], n[5], n[6]};
      plane.apart[a] = plane.size;
      plane.size *= n[0];
      plane.count *= n[1];
      if (n[1] < 0)
         throw std::invalid_argument("a pooling window is larger than what it slides over");
   }
   return plane;
}

/// The elements that exist of one window, along the first `axes` axes of a plane, one by one.
class WindowScan {
   const PoolPlane *plane_;
   int axes_;
   Size first_[PoolPlane::most_axes];
   Size last_[PoolPlane::most_axes];
   Size now_[PoolPlane::most_axes];

public:
   /// Where the present element is in its plane.
   Size offset = 0;

   SOFIE_INLINE WindowScan(const PoolPlane &plane, int axes) : plane_(&plane), axes_(axes) {}

   /// Begins with the window at `at`; false if none of it exists.
   SOFIE_INLINE bool open(const Size *at)
   {
      offset = 0;
      for (int a = 0; a < axes_; ++a) {
         const PoolAxis &axis = plane_->axis[a];
         first_[a] = now_[a] = axis.below(at[a], 0);
         last_[a] = axis.below(at[a], axis.size);
         if (first_[a] >= last_[a])
            return false;
         offset += (axis.start(at[a]) + first_[a] * axis.dilation) * plane_->apart[a];
      }
      return true;
   }

   /// Goes to the next element; false if there is none.
   SOFIE_INLINE bool next()
   {
      for (int a = axes_ - 1; a >= 0; --a) {
         const Size step = plane_->axis[a].dilation * plane_->apart[a];
         if (++now_[a] < last_[a]) {
            offset += step;
            return true;
         }
         offset -= (last_[a] - 1 - first_[a]) * step;
         now_[a] = first_[a];
      }
      return false;
   }
};

/// Goes on to the next window along the first `axes` axes; the last one is followed by the first.
SOFIE_INLINE void next_window(const PoolPlane &plane, int axes, Size *at)
{
   for (int a = axes - 1; a >= 0; --a) {
      if (++at[a] < plane.axis[a].count)
         return;
      at[a] = 0;
   }
}

using PoolMax = Largest;
using PoolSum = Total;

/// How a row is read: every element, every second one, or at any other distance.
enum class Every { one, second, other };

/// Elements at 0, stride, 2 * stride, ...
template <Every Step, class T>
SOFIE_INLINE Pack<T> load_every(const T *from, [[maybe_unused]] Size stride)
{
   constexpr int n = lanes<T>;
   if constexpr (Step == Every::one) {
      return load<n>(from);
   } else if constexpr (Step == Every::second && sizeof(T) <= 4) {
      // As numbers of twice the size, of which the lower half is kept.
      using Half = std::conditional_t<sizeof(T) == 4, std::uint32_t,
                                      std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint8_t>>;
      using Whole = std::conditional_t<sizeof(T) == 4, std::uint64_t,
                                       std::conditional_t<sizeof(T) == 2, std::uint32_t, std::uint16_t>>;
      const auto pairs = bits<PackN<Whole, n>>(load<2 * n>(from));
      return bits<Pack<T>>(__builtin_convertvector(pairs, PackN<Half, n>));
   } else {
      Pack<T> v{};
      for (int i = 0; i < n; ++i)
         v[i] = from[i * stride];
      return v;
   }
}

/// row[i] = rule(row[i], x[i]), or x[i] at first.
template <class Rule, class T>
SOFIE_INLINE void pool_into(T *__restrict row, const T *__restrict x, Size count, bool first)
{
   constexpr int n = lanes<T>;
   if (first) {
      __builtin_memcpy(row, x, static_cast<std::size_t>(count) * sizeof(T));
      return;
   }
   Size i = 0;
   SOFIE_UNROLL(4)
   for (; i + n <= count; i += n)
      store(row + i, Rule::combined(load<n>(row + i), load<n>(x + i)));
   if (i < count)
      store_some(row + i, Rule::combined(load_some<n>(row + i, count - i), load_some<n>(x + i, count - i)), count - i);
}

/// y[j] = rule of the window j of a row, divided by `divisor * members[j]` where there are such.
template <class Rule, Every Step, class T>
SOFIE_INLINE void pool_row(T *__restrict y, const T *__restrict row, const PoolAxis &axis, const T *members, T divisor)
{
   constexpr int n = lanes<T>;
   for (Size j = 0; j < axis.count; j += n) {
      const T *from = row + j * axis.stride;
      Pack<T> all = load_every<Step>(from, axis.stride);
      SOFIE_UNROLL(4)
      for (Size t = 1; t < axis.kernel; ++t) {
         from += axis.dilation;
         all = Rule::combined(all, load_every<Step>(from, axis.stride));
      }
      if constexpr (std::is_same_v<Rule, PoolSum>)
         all /= splat<Pack<T>>(divisor) * load<n>(members + j);
      store_some(y + j, all, axis.count - j < n ? axis.count - j : n);
   }
}

/// Whether there is `pool_planes_by_rows`, so that few windows are left for `pool_planes`.
#ifdef SOFIE_TILE_ASSEMBLER
template <class T>
inline constexpr bool pool_in_assembler = std::is_same_v<T, float>;
#else
template <class T>
inline constexpr bool pool_in_assembler = false;
#endif

/// What the windows of one row of results have in common is pooled first, into `row`, which has the
/// pads; that goes over whole rows of x, and then there is one axis left.
template <class Rule, class T>
SOFIE_KERNEL void pool_planes(T *y, T *row, const T *members, const T *x, Size planes, const PoolPlane &plane, bool pads)
{
   const int outer = plane.axes - 1;
   const PoolAxis &axis = plane.axis[outer];
   const Size room = (axis.count - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1 - axis.begin;
   const Size used = room < axis.size ? room : axis.size;
   if (planes <= 0 || plane.count <= 0)
      return;
   T *const begin = row + axis.begin;
   for (Size i = 0; i < (axis.count + lanes<T>)*axis.stride + (axis.kernel - 1) * axis.dilation; ++i)
      row[i] = Rule::template identity<T>();
   const Size rows = plane.count / axis.count;
   Size at[PoolPlane::most_axes] = {};
   WindowScan scan(plane, outer);
   for (Size p = 0; p < planes; ++p, x += plane.size) {
      for (Size r = 0; r < rows; ++r, y += axis.count) {
         Size divisor = 1;
         for (int a = 0; a < outer; ++a)
            divisor *= plane.axis[a].members(at[a], pads);
         bool first = true;
         if (used > 0 && scan.open(at)) {
            do {
               pool_into<Rule>(begin, x + scan.offset, used, first);
               first = false;
            } while (scan.next());
         }
         for (Size i = 0; first && i < used; ++i)
            begin[i] = Rule::template identity<T>();
         const T shared = static_cast<T>(divisor > 0 ? divisor : 1);
         if constexpr (pool_in_assembler<T>)
            pool_row<Rule, Every::other>(y, row, axis, members, shared);
         else if (axis.stride == 1)
            pool_row<Rule, Every::one>(y, row, axis, members, shared);
         else if (axis.stride == 2)
            pool_row<Rule, Every::second>(y, row, axis, members, shared);
         else
            pool_row<Rule, Every::other>(y, row, axis, members, shared);
         next_window(plane, outer, at);
      }
   }
}

#ifdef SOFIE_TILE_ASSEMBLER

/// A mask for each pack of a row of `count` elements.
SOFIE_INLINE Size *pool_masks(Size *to, Size count)
{
   for (Size i = 0; i < count; i += lanes<float>)
      *to++ = count - i < lanes<float> ? (Size{1} << (count - i)) - 1 : 0xffff;
   return to;
}

/// The table of `PoolRun`: for each row its head, and where its rows of input are, in bytes.
SOFIE_KERNEL inline void pool_table(const PoolPlane &plane, std::int32_t *to, Size rows, bool pads)
{
   const int outer = plane.axes - 1;
   Size at[PoolPlane::most_axes] = {};
   WindowScan scan(plane, outer);
   for (Size r = 0; r < rows; ++r) {
      Size divisor = 1;
      for (int a = 0; a < outer; ++a)
         divisor *= plane.axis[a].members(at[a], pads);
      const float shared = static_cast<float>(divisor > 0 ? divisor : 1);
      std::int32_t *const head = to;
      to += 2;
      if (scan.open(at)) {
         do
            *to++ = static_cast<std::int32_t>(scan.offset * static_cast<Size>(sizeof(float)));
         while (scan.next());
      }
      head[0] = static_cast<std::int32_t>((to - head - 2) * static_cast<Size>(sizeof(*to)));
      __builtin_memcpy(head + 1, &shared, sizeof shared);
      next_window(plane, outer, at);
   }
}

/// For rows of floats in assembler: `pool_planes`, with the table in memory of its own.
template <class Rule>
SOFIE_KERNEL void pool_planes_by_rows(float *y, float *row, std::int32_t *memory, const float *members, const float *x,
                                      Size planes, const PoolPlane &plane, bool pads)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float)), n = lanes<float>;
   const PoolAxis &axis = plane.axis[plane.axes - 1];
   const Size rows = plane.count / axis.count;
   const Size pitch = (axis.count - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1;
   const Size used = pitch - axis.begin < axis.size ? pitch - axis.begin : axis.size;
   const Size fit = pool_buffer / pitch > 0 ? pool_buffer / pitch : 1;
   const Size together = rows < fit ? rows : fit, most = fit / rows > 0 ? fit / rows : 1;
   Size *const inputs = reinterpret_cast<Size *>(memory), *const results = pool_masks(inputs, used);
   std::int32_t *const table = reinterpret_cast<std::int32_t *>(pool_masks(results, axis.count));
   pool_table(plane, table, rows, pads);
   alignas(64) std::int32_t order[2 * n];
   for (std::int32_t i = 0; i < n; ++i) {
      order[i] = static_cast<std::int32_t>(i * axis.stride);
      order[n + i] = 1 << i;
   }
   // What a pack of results reads may be in two packs of a row, of which AVX2 takes every second number.
   const bool near = n > 8 ? (axis.count < n ? axis.count - 1 : n - 1) * axis.stride < 2 * n : axis.stride == 2;
   const Size first = most < planes ? most : planes;
   const Pack<float> neutral = splat<Pack<float>>(Rule::template identity<float>());
   for (Size i = 0; i < first * together * pitch + n * axis.stride + 2 * n; i += n)
      store(row + i, neutral);
   PoolRun run{x, y, row + axis.begin, table, inputs, results, 0, 0, (used + n - 1) / n * 8, (axis.count + n - 1) / n * 8,
               plane.size * bytes, pitch * bytes, axis.count * bytes, axis.kernel, axis.dilation * bytes, members, order,
               axis.begin * bytes, axis.stride, 0, neutral[0]};
   for (Size p = 0; p < planes; p += most, run.x += most * plane.size) {
      run.planes = planes - p < most ? planes - p : most;
      run.table = table;
      for (Size r = 0; r < rows; r += together) {
         run.rows = rows - r < together ? rows - r : together;
         if (axis.stride == 1)
            pool_run<std::is_same_v<Rule, PoolMax>, 1>(run);
         else if (near)
            pool_run<std::is_same_v<Rule, PoolMax>, 2>(run);
         else
            pool_run<std::is_same_v<Rule, PoolMax>, 0>(run);
         run.y += run.planes * run.rows * axis.count;
         // Of several parts of a plane the next one's table follows.
         for (Size i = 0; together < rows && i < run.rows; ++i)
            run.table += 2 + run.table[0] / static_cast<Size>(sizeof(*table));
      }
   }
}

#endif

/// pool_planes, by the fastest way there is.
template <class Rule, class T>
SOFIE_INLINE void pool_any_planes(T *y, T *row, [[maybe_unused]] std::int32_t *table, const T *members, const T *x,
                                  Size planes, const PoolPlane &plane, bool pads)
{
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (pool_in_assembler<T>) {
      constexpr Size far = Size{1} << 29;
      const PoolAxis &axis = plane.axis[plane.axes - 1];
      const Size last = (axis.count - 1) * axis.stride + (axis.kernel - 1) * axis.dilation;
      if (planes > 0 && plane.count > 0 && axis.size > 0 && last >= axis.begin && plane.size < far)
         return pool_planes_by_rows<Rule>(y, row, table, members, x, planes, plane, pads);
   }
#endif
   pool_planes<Rule, T>(y, row, members, x, planes, plane, pads);
}

#ifdef SOFIE_TILE_ASSEMBLER
/// The numbers of a list of windows, and the results of planes that lie in the lanes, at most: rows of larger ones are
/// faster.
inline constexpr Size pool_list = 4096, pool_results = 16;

/// Small planes of two axes in the lanes of registers; false where that does not pay.
SOFIE_KERNEL inline bool pool_items(float *y, const float *x, Size planes, const PoolPlane &plane)
{
   const PoolAxis &down = plane.axis[0], &along = plane.axis[1];
   const Size packs = window_packs_of(planes, plane.size, plane.count), taps = down.kernel * along.kernel;
   if (plane.axes != 2 || packs == 0 || plane.count > pool_results || plane.count * (2 * taps + 1) > pool_list)
      return false;
   std::int32_t list[pool_list], *to = list;
   for (Size i = 0; i < down.count; ++i)
      for (Size j = 0; j < along.count; ++j) {
         std::int32_t *const head = to++;
         for (Size k = down.below(i, 0), last = down.below(i, down.size); k < last; ++k) {
            const Size line = (down.start(i) + k * down.dilation) * along.size;
            for (Size l = along.below(j, 0), end = along.below(j, along.size); l < end; ++l, to += 2) {
               to[0] = static_cast<std::int32_t>((line + along.start(j) + l * along.dilation) * packs * SOFIE_SIMD_BYTES);
               to[1] = 0;
            }
         }
         *head = static_cast<std::int32_t>((to - head - 1) * Size{sizeof(*to)});
      }
   const float none = -__builtin_inff();
   const WindowItems items{planes, plane.size, plane.count, 1, plane.size, plane.count, list, &none, &none, 0, 0, none};
   // The only number of a plane is the largest one.
   if (plane.size == 1 && plane.count == 1 && list[0] > 0)
      __builtin_memcpy(y, x, static_cast<std::size_t>(planes) * sizeof(float));
   else if (packs > 1)
      window_items<true, window_packs>(items, y, x);
   else
      window_items<true, 1>(items, y, x);
   return true;
}
#endif

/// y[p, j] = the largest element of window j of plane p; `row` and `table` are scratch.
template <class Y, class Row, class Table, class X, int N>
SOFIE_INLINE void max_pool(Y y, Row row, Table table, X x, const Sizes<N> &numbers)
{
   using T = typename Y::Element;
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      if (pool_items(y.data(), x.data(), x.template extent<0>(), pool_plane(numbers)))
         return;
#endif
   pool_any_planes<PoolMax, T>(y.data(), row.data(), table.data(), nullptr, x.data(), x.template extent<0>(),
                               pool_plane(numbers), false);
}

/// y[p, j] = the mean of window j of plane p, to which pads belong if asked to; `row`, `members` and
/// `table` are scratch.
template <bool Pads, class Y, class Row, class Members, class Table, class X, int N>
SOFIE_INLINE void average_pool(Y y, Row row, Members members, Table table, X x, const Sizes<N> &numbers)
{
   using T = typename Y::Element;
   const PoolPlane plane = pool_plane(numbers);
   const PoolAxis &axis = plane.axis[plane.axes - 1];
   // As many as a register holds may be read behind the end.
   for (Size j = 0; j < axis.count + lanes<T>; ++j) {
      const Size count = j < axis.count ? axis.members(j, Pads) : 1;
      members.data()[j] = static_cast<T>(count > 0 ? count : 1);
   }
   pool_any_planes<PoolSum, T>(y.data(), row.data(), table.data(), members.data(), x.data(), x.template extent<0>(),
                               plane, Pads);
}

/// The position in a plane whose first axis, not its last, is that of neighbours.
inline Size column_major(const PoolPlane &plane, Size offset)
{
   Size position = 0;
   for (int a = plane.axes - 1; a >= 0; --a)
      position = position * plane.axis[a].size + offset / plane.apart[a] % plane.axis[a].size;
   return position;
}

template <class T>
SOFIE_KERNEL void
max_pool_indexed(T *y, std::int64_t *index, const T *x, Size planes, const PoolPlane &plane, bool columns)
{
   Size at[PoolPlane::most_axes] = {};
   WindowScan scan(plane, plane.axes);
   for (Size p = 0; p < planes; ++p, x += plane.size) {
      for (Size j = 0; j < plane.count; ++j) {
         T most = PoolMax::identity<T>();
         Size where = -1;
         if (scan.open(at)) {
            do {
               const T value = x[scan.offset];
               // The first of equal ones; and the first NaN.
               if (where < 0 || value > most || (value != value && most == most)) {
                  most = value;
                  where = scan.offset;
               }
            } while (scan.next());
         }
         *y++ = most;
         *index++ = where < 0 ? -1 : p * plane.size + (columns ? column_major(plane, where) : where);
         next_window(plane, plane.axes, at);
      }
   }
}

/// The same, and where in x the element is; -1 for a window of pads alone.
template <bool Columns, class Y, class Index, class X, int N>
SOFIE_INLINE void max_pool_indexed(Y y, Index index, X x, const Sizes<N> &numbers)
{
   using T = typename Y::Element;
   max_pool_indexed<T>(y.data(), index.data(), x.data(), x.template extent<0>(), pool_plane(numbers), Columns);
}

/// x^p for p >= 1.
SOFIE_INLINE double whole_power(double x, Size p)
{
   double result = 1;
   for (; p > 0; p /= 2) {
      if (p % 2 == 1)
         result *= x;
      x *= x;
   }
   return result;
}

/// The norm of numbers of which `most` is the largest magnitude and `sum` that of
/// (magnitude / most)^p: so no power overflows or vanishes.
SOFIE_INLINE double scaled_norm(double most, double sum, Size p)
{
   if (!(most > 0) || most == __builtin_inf())
      return most;
   if (p == 1)
      return most * sum;
   return most * (p == 2 ? __builtin_sqrt(sum) : __builtin_pow(sum, 1.0 / static_cast<double>(p)));
}

SOFIE_INLINE double larger_magnitude(double most, double x)
{
   const double size = __builtin_fabs(x);
   return most > size || most != most ? most : size;
}

template <class T>
SOFIE_KERNEL void lp_pool(T *y, const T *x, Size planes, const PoolPlane &plane, Size p)
{
   Size at[PoolPlane::most_axes] = {};
   WindowScan scan(plane, plane.axes);
   for (Size i = 0; i < planes; ++i, x += plane.size) {
      for (Size j = 0; j < plane.count; ++j) {
         double most = 0, sum = 0;
         bool more = scan.open(at);
         for (; more; more = scan.next())
            most = larger_magnitude(most, static_cast<double>(x[scan.offset]));
         const bool finite = most > 0 && most < __builtin_inf();
         for (more = finite && scan.open(at); more; more = scan.next())
            sum += whole_power(__builtin_fabs(static_cast<double>(x[scan.offset])) / most, p);
         *y++ = static_cast<T>(scaled_norm(most, sum, p));
         next_window(plane, plane.axes, at);
      }
   }
}

/// y[p, j] = (the sum over window j of plane p of |x|^p)^(1/p)
template <class Y, class X, int N>
SOFIE_INLINE void lp_pool(Y y, X x, const Sizes<N> &numbers, Size p)
{
   using T = typename Y::Element;
   lp_pool<T>(y.data(), x.data(), x.template extent<0>(), pool_plane(numbers), p);
}

/// Planes of fewer packs are done in one chain.
inline constexpr int pool_small = 8;

/// rule of `count` neighbours, in an order that depends on `count` alone.
template <class Rule, class T>
SOFIE_INLINE T pool_all(const T *x, Size count)
{
   constexpr int n = lanes<T>;
   constexpr int chains = 4;
   using V = Pack<T>;
   V all[chains];
   for (int c = 0; c < chains; ++c)
      all[c] = splat<V>(Rule::template identity<T>());
   const Size whole = count < pool_small * n ? 0 : count - count % (chains * n);
   Size i = 0;
   SOFIE_UNROLL(2)
   for (; i < whole; i += chains * n)
      SOFIE_UNROLL_ALL
      for (int c = 0; c < chains; ++c)
         all[c] = Rule::combined(all[c], load<n>(x + i + c * n));
   for (; i + n <= count; i += n)
      all[0] = Rule::combined(all[0], load<n>(x + i));
   if (i < count) {
      // What does not exist must not count.
      const V some = load_some<n>(x + i, count - i), none = splat<V>(Rule::template identity<T>());
      V place;
      for (int l = 0; l < n; ++l)
         place[l] = static_cast<T>(l);
      all[1] = Rule::combined(all[1], select(place < splat<V>(static_cast<T>(count - i)), some, none));
   }
   return fold_lanes<Rule>(Rule::combined(Rule::combined(all[0], all[1]), Rule::combined(all[2], all[3])));
}

/// The same of as many planes as a register has lanes, each of less than a pack; up to a pack behind them is read.
template <class Rule, class T>
SOFIE_INLINE void pool_planes(T *y, const T *x, Size count)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const V none = splat<V>(Rule::template identity<T>());
   const auto exists = lane_numbers<V>() < splat<MaskOf<V>>(static_cast<ElementOf<MaskOf<V>>>(count));
   V rows[std::size_t{n}];
   SOFIE_UNROLL_ALL
   for (int r = 0; r < n; ++r)
      rows[r] = Rule::combined(Rule::combined(none, Rule::combined(none, select(exists, load<n>(x + r * count), none))), Rule::combined(none, none));
   transpose(rows);
   SOFIE_UNROLL_ALL
   for (int half = n / 2; half > 0; half /= 2)
      SOFIE_UNROLL_ALL
      for (int l = 0; l < half; ++l)
         rows[l] = Rule::combined(rows[l], rows[l + half]);
   store(y, rows[0]);
}

template <class Rule, class T>
SOFIE_KERNEL void pool_each_plane(T *y, const T *x, Size planes, Size count)
{
#ifdef SOFIE_PIECES_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      return reduce_rows<std::is_same_v<Rule, PoolMax> ? RowRule::largest : RowRule::sum>(y, x, planes, count);
#endif
   constexpr int n = lanes<T>;
   Size p = 0;
   // As long as packs behind the planes are others of them.
   if constexpr (std::is_same_v<T, float>)
      for (; count < n && (p + n) * count + n <= planes * count; p += n, x += n * count)
         pool_planes<Rule>(y + p, x, count);
   for (; p < planes; ++p, x += count)
      y[p] = pool_all<Rule>(x, count);
}

template <class Rule, class T>
SOFIE_KERNEL void global_pool(T *y, const T *x, Size planes, Size count)
{
   constexpr int n = lanes<T>;
   pool_each_plane<Rule>(y, x, planes, count);
   if constexpr (std::is_same_v<Rule, PoolSum>) {
      const Pack<T> members = splat<Pack<T>>(static_cast<T>(count));
      for (Size p = 0; p < planes; p += n) {
         const Size some = planes - p < n ? planes - p : n;
         store_some(y + p, load_some<n>(y + p, some) / members, some);
      }
   }
}

/// y[p] = rule of x[p, ...]; the mean where the rule is the sum.
template <class Rule, class Y, class X>
SOFIE_INLINE void global_pool(Y y, X x)
{
   global_pool<Rule, typename Y::Element>(y.data(), x.data(), x.template extent<0>(), x.template extent<1>());
}

/// y[i] = (the sum over x[i, ...] of |x|^p)^(1/p): one window, which is all of a plane.
template <class Y, class X>
SOFIE_INLINE void global_lp_pool(Y y, X x, Size p)
{
   const Size count = x.template extent<1>();
   lp_pool(y, x, Sizes<7>{{count, 1, count, 1, 1, 0, 0}}, p);
}

/// base^exponent; by square roots where that is much faster, in double as they are rounded, too.
template <class V>
SOFIE_INLINE V response(V base, double exponent)
{
   if (exponent == 0.75) {
      using Wide = PackN<double, width<V>>;
      const Wide root = sqrt(__builtin_convertvector(base, Wide));
      return __builtin_convertvector(root * sqrt(root), V);
   }
   if (exponent == 0.5)
      return sqrt(base);
   if (exponent == 1)
      return base;
   for (int i = 0; i < width<V>; ++i)
      base[i] = static_cast<ElementOf<V>>(__builtin_pow(static_cast<double>(base[i]), exponent));
   return base;
}

/// The numbers of a local response normalisation.
struct LocalResponse {
   double alpha, beta, bias;
   Size size;
};

template <class T>
SOFIE_KERNEL void
local_response(const LocalResponse &rule, T *__restrict y, const T *__restrict x, Size rows, Size channels, Size inner)
{
   constexpr int n = lanes<T>;
   using V = Pack<T>;
   const Size before = (rule.size - 1) / 2, behind = rule.size - 1 - before;
   const V scale = splat<V>(static_cast<T>(rule.alpha / static_cast<double>(rule.size)));
   const V bias = splat<V>(static_cast<T>(rule.bias));
   for (Size r = 0; r < rows; ++r, x += channels * inner, y += channels * inner)
      for (Size c = 0; c < channels; ++c) {
         const Size first = c < before ? 0 : c - before;
         const Size last = channels - 1 - c < behind ? channels - 1 : c + behind;
         for (Size i = 0; i < inner; i += n) {
            const Size count = inner - i < n ? inner - i : n;
            V sum{};
            for (Size k = first; k <= last; ++k) {
               const V v = load_some<n>(x + k * inner + i, count);
               sum = multiply_add(v, v, sum);
            }
            const V own = load_some<n>(x + c * inner + i, count);
            store_some(y + c * inner + i, own / response(multiply_add(scale, sum, bias), rule.beta), count);
         }
      }
}

/// y[r, c, i] = x[r, c, i] / (bias + alpha / size * the sum over channels near c of x^2)^beta
template <class Y, class X>
SOFIE_INLINE void local_response(const LocalResponse &rule, Y y, X x)
{
   local_response<typename Y::Element>(rule, y.data(), x.data(), x.template extent<0>(), x.template extent<1>(),
                                       x.template extent<2>());
}

/// Puts x[i] at the position in a tensor of the shape `from` that index[i] says, in y of the shape
/// `to`, which is zero elsewhere.
template <class T>
SOFIE_KERNEL void
max_unpool(T *y, const T *x, const std::int64_t *index, Size count, const Size *from, const Size *to, int rank)
{
   Size size = 1, source = 1;
   bool same = true;
   for (int a = 0; a < rank; ++a) {
      size *= to[a];
      source *= from[a];
      same = same && from[a] == to[a];
   }
   __builtin_memset(static_cast<void *>(y), 0, static_cast<std::size_t>(size) * sizeof(T));
   for (Size i = 0; i < count; ++i) {
      Size rest = static_cast<Size>(index[i]);
      if (rest < 0 || rest >= source)
         throw std::out_of_range("MaxUnpool: an index is not one of its result");
      if (same) {
         y[rest] = x[i];
         continue;
      }
      Size place = 0, apart = 1;
      for (int a = rank - 1; a >= 0; --a) {
         const Size at = rest % from[a];
         if (at >= to[a])
            throw std::out_of_range("MaxUnpool: an index is not one of its output_shape");
         place += at * apart;
         apart *= to[a];
         rest /= from[a];
      }
      y[place] = x[i];
   }
}

/// max_unpool into a shape that is known.
template <class Y, class X, class Index, int N>
SOFIE_INLINE void max_unpool(Y y, X x, Index index, const Sizes<N> &from, const Sizes<N> &to)
{
   max_unpool<typename Y::Element>(y.data(), x.data(), index.data(), x.size(), from.values, to.values, N);
}

/// max_unpool into the shape that is given as a tensor.
template <class T, int Rank, class X, class Index, class Shape>
SOFIE_INLINE void max_unpool(Owned<T, Rank> &y, X x, Index index, Shape shape, const Sizes<Rank> &from)
{
   Sizes<Rank> to;
   for (int a = 0; a < Rank; ++a) {
      to[a] = static_cast<Size>(shape.data()[a]);
      if (to[a] < 0)
         throw std::invalid_argument("MaxUnpool: output_shape is negative");
   }
   y.resize(to);
   max_unpool<T>(y.data(), x.data(), index.data(), x.size(), from.values, to.values, Rank);
}

} // namespace sofie

SOFIE_END

#endif
