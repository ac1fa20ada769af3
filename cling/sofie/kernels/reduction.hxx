/// \file
/// Reductions: sums, products, extrema and norms over any axes.
///
/// Neighbouring axes of one kind are seen as one, so that the last axis is either reduced or the
/// `inner` one, along which packs hold results side by side. Short inner axes (and none) have
/// several positions of the reduced axis in a pack, which are folded at the end. All sums are
/// pairwise, in an order that depends on nothing but the sizes of the reduced and the inner axes.
#ifndef SOFIE_KERNELS_REDUCTION_HXX
#define SOFIE_KERNELS_REDUCTION_HXX

#include "sofie/kernels/reduction/axes.hxx"
#include "sofie/kernels/reduction/rules.hxx"
#include "sofie/kernels/reduction/strided.hxx"
#include "sofie/kernels/softmax/rows.hxx"
#include "sofie/session/owned.hxx"

SOFIE_BEGIN

namespace sofie {

// One result, or a pack of results side by side ----------------------------------------------------

/// The first lanes are `inner` results; in a `packed` walk the lanes hold several positions.
template <class T, int N>
struct Line {
   const T *begin;
   const T *end; ///< of the tensor: nothing is read from there on
   const Reduction &shape;
   bool packed;
};

/// Combines packs as they come: of sums, the ones that are as many packs' sums as each other.
template <class C, class V, bool = C::is_pairwise>
class Gathered {
   V total_;

public:
   // Not left to the compiler: Cling gives what that makes no instruction set.
   SOFIE_INLINE Gathered() : total_(splat<V>(C::template identity<ElementOf<V>>())) {}
   SOFIE_INLINE void take(V v) { total_ = C::combined(total_, v); }
   SOFIE_INLINE V total() const { return total_; }
};

template <class C, class V>
class Gathered<C, V, true> {
   // Level l is the sum of 2^l blocks, if bit l of their number is set.
   V levels_[48];
   Size blocks_;

public:
   SOFIE_INLINE Gathered() : blocks_(0) {}
   SOFIE_INLINE void take(V v)
   {
      int level = 0;
      for (Size b = blocks_; b & 1; b >>= 1)
         v = C::combined(levels_[level++], v);
      levels_[level] = v;
      ++blocks_;
   }
   SOFIE_INLINE V total() const
   {
      V v = splat<V>(C::template identity<ElementOf<V>>());
      int level = 0;
      for (Size b = blocks_; b; b >>= 1, ++level)
         if (b & 1)
            v = C::combined(levels_[level], v);
      return v;
   }
};

/// `count` packs that are `apart`, as far as they are before `end`, one after the other.
template <int N, class T>
SOFIE_KERNEL void copy_packs(T *to, const T *from, Size apart, Size count, const T *end)
{
   __builtin_memset(static_cast<void *>(to), 0, static_cast<std::size_t>(count) * N * sizeof(T));
   for (Size k = 0; k < count; ++k) {
      const Size left = end - (from + k * apart);
      const Size some = left < N ? left : N;
      if (some > 0)
         __builtin_memcpy(static_cast<void *>(to + k * N), from + k * apart,
                          static_cast<std::size_t>(some) * sizeof(T));
   }
}

/// The term of the pack at `from`, in the type in which it is summed.
template <class V, class Term, class T>
SOFIE_INLINE V term_at(const Term &term, const T *from)
{
   const auto v = load<width<V>>(from);
   if constexpr (std::is_same_v<V, std::decay_t<decltype(v)>>)
      return term(v);
   else
      return term(convert<ElementOf<V>>(v));
}

/// Eight or fewer packs as one.
template <class C, class V, class Term, class T>
SOFIE_INLINE V block(const Term &term, const T *from, Size apart, Size count)
{
   if (count == 8) {
      const V a = C::combined(term_at<V>(term, from), term_at<V>(term, from + apart));
      const V b = C::combined(term_at<V>(term, from + 2 * apart), term_at<V>(term, from + 3 * apart));
      const V c = C::combined(term_at<V>(term, from + 4 * apart), term_at<V>(term, from + 5 * apart));
      const V d = C::combined(term_at<V>(term, from + 6 * apart), term_at<V>(term, from + 7 * apart));
      return C::combined(C::combined(a, b), C::combined(c, d));
   }
   V v = term_at<V>(term, from);
   for (Size k = 1; k < count; ++k)
      v = C::combined(v, term_at<V>(term, from + k * apart));
   return v;
}

/// All terms of a line, lane by lane.
template <class C, class V, class Term, class T>
SOFIE_INLINE V gather_lanes(const Term &term, const Line<T, width<V>> &line)
{
   constexpr int n = width<V>;
   const Reduction &s = line.shape;
   const Size step = line.packed ? n / s.inner * s.inner : s.inner;
   const Size packs = line.packed ? s.run * s.inner / step : s.run;
   const Size rest = line.packed ? s.run * s.inner - packs * step : 0;
   const auto in_rest = lane_numbers<V>() < static_cast<ElementOf<MaskOf<V>>>(rest);
   Gathered<C, V> gathered;
   Odometer at(s.reduced);
   for (Size i = s.reduced.positions(); i > 0; --i, at.next()) {
      const T *const run = line.begin + at.offset;
      for (Size done = 0; done < packs; done += 8) {
         const Size count = packs - done < 8 ? packs - done : 8;
         const T *from = run + done * step;
         if (line.end - from >= (count - 1) * step + n) {
            gathered.take(block<C, V>(term, from, step, count));
         } else {
            T spare[8 * n];
            copy_packs<n>(spare, from, step, count, line.end);
            gathered.take(block<C, V>(term, spare, n, count));
         }
      }
      if (rest) {
         const T *from = run + packs * step;
         T spare[n];
         if (line.end - from < n) {
            copy_packs<n>(spare, from, 0, 1, line.end);
            from = spare;
         }
         const V v = term_at<V>(term, from);
         gathered.take(select<V>(in_rest, v, splat<V>(C::template identity<ElementOf<V>>())));
      }
   }
   return gathered.total();
}

/// The results of a line, in the first `inner` lanes.
template <class C, class V>
SOFIE_INLINE V folded(V v, Size inner, bool packed)
{
   using T = ElementOf<V>;
   constexpr int n = width<V>;
   if (!packed)
      return v;
   if (inner == 1)
      return splat<V>(fold_lanes<C>(v));
   T lanes_of[2 * n];
   store(lanes_of, v);
   store(lanes_of + n, V{});
   for (Size g = 1; g < n / inner; ++g)
      v = C::combined(v, load<n>(lanes_of + g * inner));
   return v;
}

/// The results in the first `inner` lanes, repeated as the positions in a pack are.
template <class V>
SOFIE_INLINE V repeated(V v, Size inner, bool packed)
{
   if (packed)
      for (Size i = inner; i < width<V>; ++i)
         v[i] = v[i - inner];
   return v;
}

template <class C, class V, class Term, class T>
SOFIE_INLINE V line_results(const Term &term, const Line<T, width<V>> &line)
{
   return folded<C>(gather_lanes<C, V>(term, line), line.shape.inner, line.packed);
}

// The operators ------------------------------------------------------------------------------------

/// An operator that combines a term of each element: `Accumulated<T>` is the type for that.
template <class Combine, class Term>
struct PlainReduction {
   using Combination = Combine;
   using Terms = Term;
   static constexpr bool is_plain = true; ///< There is nothing to it but that.
   template <class T>
   using Accumulated = std::conditional_t<std::is_same_v<T, bool>, unsigned char, T>;

   template <class V, class T>
   SOFIE_INLINE static V results(const Line<T, width<V>> &line)
   {
      return line_results<Combine, V>(Term{}, line);
   }
   template <class V>
   SOFIE_INLINE static V finished(V v, Size)
   {
      return v;
   }
};

struct ReduceSum : PlainReduction<Total, AsItIs> {};
struct ReduceMax : PlainReduction<Largest, AsItIs> {};
struct ReduceMin : PlainReduction<Least, AsItIs> {};
struct ReduceProd : PlainReduction<Product, AsItIs> {};
struct ReduceL1 : PlainReduction<Total, Magnitude> {};
struct ReduceSumSquare : PlainReduction<Total, Squared> {};

/// Of integers towards zero, and 0 for none.
struct ReduceMean : PlainReduction<Total, AsItIs> {
   template <class V>
   SOFIE_INLINE static V finished(V v, Size count)
   {
      using T = ElementOf<V>;
      if constexpr (std::is_floating_point_v<T>) {
         return v / splat<V>(static_cast<T>(count));
      } else {
         using Wide = std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>;
         for (int i = 0; i < width<V>; ++i)
            v[i] = count ? static_cast<T>(static_cast<Wide>(v[i]) / static_cast<Wide>(count)) : T{0};
         return v;
      }
   }
};

struct ReduceLogSum : PlainReduction<Total, AsItIs> {
   template <class V>
   SOFIE_INLINE static V finished(V v, Size)
   {
      return log(v);
   }
};

/// max x + ln sum e^(x - max x)
struct ReduceLogSumExp : PlainReduction<Total, AsItIs> {
   static constexpr bool is_plain = false;
   template <class V, class T>
   SOFIE_INLINE static V results(const Line<T, width<V>> &line)
   {
      const Size inner = line.shape.inner;
      const V most = line_results<Largest, V>(AsItIs{}, line);
      const V infinite = splat<V>(MathFor<V>::infinity);
      const V shift = repeated(select<V>(abs(most) == infinite, V{}, most), inner, line.packed);
      return log(line_results<Total, V>(ExpAbove<V>{shift}, line)) + shift;
   }
};

template <class V>
SOFIE_INLINE bool any(MaskOf<V> mask)
{
   std::int64_t words[sizeof(V) / 8];
   __builtin_memcpy(words, &mask, sizeof(V));
   std::int64_t found = 0;
   for (std::size_t i = 0; i < sizeof(V) / 8; ++i)
      found |= words[i];
   return found != 0;
}

/// sqrt(sum x^2), of numbers whose squares overflow or vanish, too.
template <class V, class T>
SOFIE_KERNEL void scaled_norm(ElementOf<V> *norm, const Line<T, width<V>> &line)
{
   using M = MathFor<V>;
   const Size inner = line.shape.inner;
   const V most = line_results<Largest, V>(Magnitude{}, line);
   const V infinite = splat<V>(M::infinity), smallest = splat<V>(M::smallest);
   // A power of two, so that divisions by it are exact.
   const V power = bits<V>(bits<MaskOf<V>>(most) & bits<MaskOf<V>>(infinite));
   const V usable = select<V>(power < smallest, smallest, power);
   const V scale = repeated(select<V>((most > V{}) & (most < infinite), usable, splat<V>(1)), inner, line.packed);
   const V sum = line_results<Total, V>(SquaredOver<V>{scale}, line);
   store(norm, scale * sqrt(sum));
}

/// Of integers computed as double, and the largest integer where that is beyond it.
struct ReduceL2 : PlainReduction<Total, Squared> {
   static constexpr bool is_plain = false;
   template <class T>
   using Accumulated = std::conditional_t<std::is_floating_point_v<T>, T, double>;

   template <class V, class T>
   SOFIE_INLINE static V results(const Line<T, width<V>> &line)
   {
      const V sum = line_results<Total, V>(Squared{}, line);
      V norm = sqrt(sum);
      if constexpr (std::is_floating_point_v<T>) {
         constexpr T low = sizeof(T) == 4 ? static_cast<T>(0x1p-90) : static_cast<T>(0x1p-900);
         constexpr T high = MathOf<T>::infinity;
         const auto safe = (sum > splat<V>(low)) & (sum < splat<V>(high));
         if (any<V>(~safe)) {
            alignas(64) T again[width<V>];
            scaled_norm<V>(again, line);
            norm = select<V>(safe, norm, load<width<V>>(again));
         }
      } else {
         constexpr int digits = 8 * static_cast<int>(sizeof(T)) - (std::is_signed_v<T> ? 1 : 0);
         constexpr double beyond = 2.0 * static_cast<double>(std::uint64_t{1} << (digits - 1));
         constexpr double most = beyond - (digits > 53 ? static_cast<double>(std::uint64_t{1} << (digits - 53)) : 1.0);
         norm = select<V>(norm < splat<V>(beyond), norm, splat<V>(most));
      }
      return norm;
   }
};

/// Stores the first `count` elements, which were computed in another type.
template <class T, class V>
SOFIE_INLINE void store_results(T *to, V v, Size count)
{
   if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, ElementOf<V>>)
      store_some(to, v, count);
   else
      store_some(to, convert<T>(v), count);
}

/// Of each `2 * Block` lanes of `a`, then of `b`, the first half (or the second one).
template <int Block, bool Second, class V, int... Lane>
SOFIE_INLINE V halves_of(V a, V b, std::integer_sequence<int, Lane...>)
{
   return shuffle(a, b, std::integer_sequence<int, ((Lane / Block * 2 + Second) * Block + Lane % Block)...>());
}

/// Lane i is all lanes of the i-th of `width` packs as one, combined as `fold_lanes` does.
template <class C, int Count, class V>
SOFIE_INLINE V fold_each(V *rows)
{
   if constexpr (Count == 1) {
      return rows[0];
   } else {
      constexpr auto lanes_of = std::make_integer_sequence<int, width<V>>();
   SOFIE_UNROLL_ALL
      for (int i = 0; i < Count / 2; ++i)
         rows[i] = C::combined(halves_of<Count / 2, false>(rows[2 * i], rows[2 * i + 1], lanes_of),
                               halves_of<Count / 2, true>(rows[2 * i], rows[2 * i + 1], lanes_of));
      return fold_each<C, Count / 2>(rows);
   }
}

/// Results of a few packs of neighbours each: as many of them as a pack has lanes are computed at once,
/// each as `line_results` does.
template <class R, bool = R::is_plain>
struct ManyShort {
   template <class V>
   static constexpr bool fits(const Reduction &)
   {
      return false;
   }
   template <class V, class T>
   SOFIE_INLINE static V results(const T *, const Size *, const Reduction &)
   {
      return V{};
   }
};

template <class R>
struct ManyShort<R, true> {
   using C = typename R::Combination;

   template <class V>
   static bool fits(const Reduction &s)
   {
      return width<V> > 1 && s.inner == 1 && s.reduced.count == 0 && s.run > 0 && s.run <= 8 * width<V>;
   }
   template <class V>
   SOFIE_INLINE static V first(V v, V identity)
   {
      return C::is_pairwise ? v : C::combined(identity, v);
   }
   template <class V, class T>
   SOFIE_INLINE static V results(const T *x, const Size *offsets, const Reduction &s)
   {
      constexpr int n = width<V>;
      const Size packs = s.run / n, rest = s.run % n;
      const V identity = splat<V>(C::template identity<ElementOf<V>>());
      const auto in_rest = lane_numbers<V>() < static_cast<ElementOf<MaskOf<V>>>(rest);
      V rows[n];
      for (int i = 0; i < n; ++i) {
         const T *const from = x + offsets[i];
         if (packs > 0)
            rows[i] = first(block<C, V>(typename R::Terms{}, from, n, packs), identity);
         if (rest > 0) {
            T spare[n];
            store(spare, load_some<n>(from + packs * n, rest));
            const V v = select<V>(in_rest, term_at<V>(typename R::Terms{}, static_cast<const T *>(spare)), identity);
            rows[i] = packs > 0 ? C::combined(rows[i], v) : first(v, identity);
         }
         if constexpr (C::is_pairwise)
            rows[i] = C::combined(rows[i], identity);
      }
      return fold_each<C, n>(rows);
   }
};

/// What R does with each number of a row, if the kernels for rows of floats know that.
template <class R, bool = R::is_plain>
inline constexpr RowRule row_rule_of = RowRule::none;
template <class C, class Term>
inline constexpr RowRule row_rule = RowRule::none;
template <>
inline constexpr RowRule row_rule<Total, AsItIs> = RowRule::sum;
template <>
inline constexpr RowRule row_rule<Total, Magnitude> = RowRule::magnitudes;
template <>
inline constexpr RowRule row_rule<Total, Squared> = RowRule::squares;
template <>
inline constexpr RowRule row_rule<Product, AsItIs> = RowRule::product;
template <>
inline constexpr RowRule row_rule<Largest, AsItIs> = RowRule::largest;
template <>
inline constexpr RowRule row_rule<Least, AsItIs> = RowRule::least;
template <class R>
inline constexpr RowRule row_rule_of<R, true> = row_rule<typename R::Combination, typename R::Terms>;

#ifdef SOFIE_COLUMNS_ASSEMBLER
/// y = the reductions of rows of `count` floats.
template <class R>
SOFIE_KERNEL void reduce_float_rows(float *y, const float *x, const Reduction &shape, Size rows)
{
   constexpr int n = lanes<float>;
   reduce_rows<row_rule_of<R>>(y, x, rows, shape.run, R::Combination::template identity<float>());
   for (Size i = 0; i < rows; i += n) {
      const Size some = rows - i < n ? rows - i : n;
      store_some(y + i, R::finished(load_some<n>(y + i, some), shape.count), some);
   }
}

/// Up to sixteen results of rows by the kernels for these, and which are right: infinite, tiny and NaN are not.
SOFIE_KERNEL inline void float_rows_norm(float *y, float *right, const float *x, Size rows, Size count)
{
   using V = Pack<float>;
   constexpr int n = lanes<float>;
   reduce_rows<RowRule::squares>(y, x, rows, count, 0);
   const V sum = load<n>(y);
   const auto safe = (sum > splat<V>(0x1p-90f)) & (sum < splat<V>(MathOf<float>::infinity));
   store(y, sqrt(sum));
   store(right, select<V>(safe, splat<V>(1), V{}));
}
SOFIE_KERNEL inline void float_rows_log_total(float *y, float *right, const float *x, Size rows, Size count)
{
   using V = Pack<float>;
   constexpr int n = lanes<float>;
   alignas(64) float most[n] = {};
   softmax_statistics<false>(softmax_rows_of(nullptr, x, rows, count, most, y));
   const V sum = load<n>(y), infinity = splat<V>(MathOf<float>::infinity);
   store(y, log(sum) + load<n>(most));
   store(right, select<V>((abs(load<n>(most)) < infinity) & (sum < infinity), splat<V>(1), V{}));
}

/// Whether there is such a kernel for R.
template <class R>
inline constexpr bool has_float_rows = std::is_same_v<R, ReduceL2> || std::is_same_v<R, ReduceLogSumExp>;

/// y = the reductions of rows of `count` floats; of those that are not right in the general way.
template <class R>
SOFIE_KERNEL void reduce_special_rows(float *y, const float *x, const Reduction &shape, Size rows)
{
   using V = Pack<float>;
   constexpr int n = lanes<float>;
   alignas(64) float found[n] = {}, right[n] = {};
   for (Size i = 0; i < rows; i += n) {
      const Size some = rows - i < n ? rows - i : n;
      const float *const from = x + i * shape.run;
      if constexpr (std::is_same_v<R, ReduceL2>)
         float_rows_norm(found, right, from, some, shape.run);
      else
         float_rows_log_total(found, right, from, some, shape.run);
      for (Size r = 0; r < some; ++r)
         if (right[r] == 0) {
            alignas(64) float again[n];
            store(again, R::template results<V>(Line<float, n>{from + r * shape.run, x + shape.inputs, shape, true}));
            found[r] = again[0];
         }
      store_some(y + i, load<n>(found), some);
   }
}

/// The same for rows in pieces, which are copied one behind the other, if they are such; whether they are.
template <class R>
SOFIE_KERNEL bool reduce_joined_pieces(float *y, const float *x, const Reduction &s)
{
   constexpr Size n = lanes<float>;
   if (s.inner != 1 || !s.is_fixed || s.reduced.count != 1 || s.kept.count > 2 || s.run > n || s.count <= 0 ||
       s.count > reduced_row)
      return false;
   alignas(64) float joined[reduced_row + n];
   Reduction whole = s;
   whole.run = s.count;
   whole.reduced.count = 0;
   const int last = s.kept.count - 1;
   const Size lines = s.kept.sizes[last], line = s.kept.strides[last], fit = reduced_row / s.count, rows = fit < n ? fit : n;
   for (Size i = 0, outer = last > 0 ? s.kept.sizes[0] : 1; i < outer; ++i)
      for (Size row = 0; row < lines; row += rows) {
         const Size some = lines - row < rows ? lines - row : rows;
         const float *const from = x + (last > 0 ? i * s.kept.strides[0] : 0) + row * line;
         join_pieces(joined, from, {some, line, s.count, s.reduced.sizes[0], s.reduced.strides[0], s.run});
         whole.inputs = some * s.count;
         reduce_special_rows<R>(y, joined, whole, some);
         y += some;
      }
   return true;
}

/// Whether there is a kernel for many columns side by side for R.
template <class R>
inline constexpr bool has_float_columns =
   row_rule_of<R> == RowRule::sum || row_rule_of<R> == RowRule::largest || row_rule_of<R> == RowRule::least;

/// The same for columns side by side, as many as are done together; how many that are.
template <class R>
SOFIE_INLINE Size reduce_float_columns(float *y, const float *x, const Reduction &shape)
{
   constexpr RowRule rule = row_rule_of<R>;
   constexpr int n = lanes<float>;
   Size j = 0;
   for (; shape.inner - j >= columns_together; j += columns_together) {
      if constexpr (rule == RowRule::sum)
         sum_columns(y + j, x + j, shape.inner, shape.run);
      else
         reduce_columns<rule>(y + j, x + j, shape.inner, shape.run, R::Combination::template identity<float>());
      for (Size i = j; i < j + columns_together; i += n)
         store(y + i, R::finished(load<n>(y + i), shape.count));
   }
   return j;
}

/// y = the reductions of rows that follow each other, of several such sets of rows.
template <class R>
SOFIE_KERNEL void reduce_sets_of_rows(float *y, const float *x, const Reduction &s)
{
   using C = typename R::Combination;
   constexpr Size n = lanes<float>, together = 512;
   alignas(64) float more[static_cast<std::size_t>(together)];
   WalkedAxes outer = s.kept;
   const Size rows = outer.sizes[--outer.count];
   Odometer at(outer);
   for (Size o = outer.positions(); o > 0; --o, at.next())
      for (Size done = 0; done < rows; done += together) {
         const Size some = rows - done < together ? rows - done : together;
         Odometer set(s.reduced);
         for (Size left = s.reduced.positions(), first = left; left > 0; --left, set.next()) {
            const float *const from = x + at.offset + set.offset + done * s.run;
            float *const to = left == first ? y : more;
            reduce_rows<row_rule_of<R>>(to, from, some, s.run, C::template identity<float>());
            for (Size i = 0; to == more && i < some; i += n) {
               const Size used = some - i < n ? some - i : n;
               store_some(y + i, C::combined(load_some<n>(y + i, used), load_some<n>(more + i, used)), used);
            }
         }
         y += some;
      }
}

/// The same for a few columns, or rows in pieces, if they are such; whether they are.
template <class R>
SOFIE_KERNEL bool reduce_float_pieces(float *y, const float *x, const Reduction &s)
{
   constexpr RowRule rule = row_rule_of<R>;
   constexpr Size n = lanes<float>;
   const float neutral = R::Combination::template identity<float>();
   const Size results = s.kept.positions() * s.inner, sets = s.reduced.positions();
   const bool columns = s.inner >= few_columns && s.inner < columns_together && s.reduced.count == 0;
   const bool apart = s.inner == 1 && s.reduced.count > 0 && sets > 0 && s.run > 0 && s.run <= reduced_row;
   const bool pieces = apart && s.run <= n && s.reduced.count == 1 && s.kept.count <= 2;
   if (!s.is_fixed || !(columns || apart) || (columns ? s.run : sets) > strided_pieces)
      return false;
   if (columns) {
      reduce_few_columns<rule>(y, x, results / s.inner, s.run, s.inner, neutral);
   } else if (pieces) {
      const int last = s.kept.count - 1;
      const Size lines = last < 0 ? 1 : s.kept.sizes[last], line = last < 0 ? 0 : s.kept.strides[last];
      for (Size i = 0; i * lines < results; ++i)
         reduce_pieces<rule, true>(y + i * lines, x + (last < 1 ? 0 : i * s.kept.strides[0]),
                                   {lines, line, 1, s.reduced.sizes[0], s.reduced.strides[0], s.run}, neutral);
   } else {
      reduce_sets_of_rows<R>(y, x, s);
   }
   for (Size i = 0; i < results; i += n) {
      const Size some = results - i < n ? results - i : n;
      store_some(y + i, R::finished(load_some<lanes<float>>(y + i, some), s.count), some);
   }
   return true;
}

/// The norms of rows in pieces, if they are such; whether they are.
SOFIE_KERNEL inline bool float_pieces_norm(float *y, const float *x, const Reduction &s)
{
   using V = Pack<float>;
   constexpr int n = lanes<float>;
   if (s.inner != 1 || s.reduced.count == 0 || !reduce_float_pieces<ReduceSumSquare>(y, x, s))
      return false;
   alignas(64) float again[n];
   Odometer at(s.kept);
   for (Size i = s.kept.positions(); i > 0; --i, at.next(), ++y) {
      // Infinite, tiny and NaN in the general way.
      if (*y > 0x1p-90f && *y < MathOf<float>::infinity) {
         *y = sqrt(PackN<float, 1>{*y})[0];
         continue;
      }
      store(again, ReduceL2::results<V>(Line<float, n>{x + at.offset, x + s.inputs, s, true}));
      *y = again[0];
   }
   return true;
}
#endif

/// What all results of a line are, from result number `j` on; `line` begins anywhere.
template <class R, class T, int N>
SOFIE_INLINE void reduce_line(T *y, const T *x, Line<T, N> &line, Size j)
{
   using V = PackN<typename R::template Accumulated<T>, N>;
   const Size inner = line.shape.inner;
   for (; j < inner; j += N) {
      // The last pack once more with results that are there already.
      const Size first = j + N > inner && inner >= N ? inner - N : j;
      line.begin = x + first;
      const V v = R::finished(R::template results<V>(line), line.shape.count);
      store_results(y + first, v, inner - first < N ? inner - first : N);
   }
}

/// How many results of T go through the lanes of a register together.
template <class R, class T, class A = typename R::template Accumulated<T>>
inline constexpr int reduced_lanes = lanes<A> < lanes<T> ? lanes<A> : lanes<T>;

/// y = the reductions of x, in the order of the axes that are kept; of all types and sizes.
template <class R, class T>
SOFIE_KERNEL void reduce_lanes(T *y, const T *x, const Reduction &shape)
{
   using A = typename R::template Accumulated<T>;
   constexpr int n = reduced_lanes<R, T>;
   using V = PackN<A, n>;
   const Size inner = shape.inner;
   Line<T, n> line{x, x + shape.inputs, shape, shape.is_fixed && 2 * inner <= n};
   Odometer at(shape.kept);
   Size lines = inner ? shape.kept.positions() : 0;
   if (line.packed && ManyShort<R>::template fits<V>(shape))
      for (Size offsets[n]; lines >= n; lines -= n, y += n) {
         for (int i = 0; i < n; ++i, at.next())
            offsets[i] = at.offset;
         store_results(y, R::finished(ManyShort<R>::template results<V>(x, offsets, shape), shape.count), n);
      }
   if (line.packed) {
      // Results wait until they fill a pack, for what is done with all of them at the end.
      alignas(64) A waiting[2 * n] = {};
      Size filled = 0;
      for (; lines > 0; --lines, at.next()) {
         line.begin = x + at.offset;
         store(waiting + filled, R::template results<V>(line));
         filled += inner;
         if (filled + inner > n || lines == 1) {
            store_results(y, R::finished(load<n>(waiting), shape.count), filled);
            y += filled;
            filled = 0;
         }
      }
      return;
   }
   for (; lines > 0; --lines, at.next(), y += inner)
      reduce_line<R>(y, x + at.offset, line, 0);
}

#ifdef SOFIE_COLUMNS_ASSEMBLER
/// The same for floats in rows that follow each other, one number each.
template <class R>
SOFIE_INLINE void reduce_rows_of(float *y, const float *x, const Reduction &shape)
{
   if constexpr (has_float_rows<R>)
      reduce_special_rows<R>(y, x, shape, shape.kept.positions());
   else
      reduce_float_rows<R>(y, x, shape, shape.kept.positions());
}

/// The same for pieces of rows, if they are such; whether they are.
template <class R>
SOFIE_INLINE bool reduce_pieces_of(float *y, const float *x, const Reduction &shape)
{
   if constexpr (std::is_same_v<R, ReduceL2>)
      return float_pieces_norm(y, x, shape);
   else if constexpr (std::is_same_v<R, ReduceLogSumExp>)
      return reduce_joined_pieces<R>(y, x, shape);
   else
      return reduce_float_pieces<R>(y, x, shape);
}

/// The same for many columns.
template <class R>
SOFIE_KERNEL void reduce_columns_of(float *y, const float *x, const Reduction &shape)
{
   Line<float, lanes<float>> line{x, x + shape.inputs, shape, false};
   Odometer at(shape.kept);
   Size lines = shape.inner ? shape.kept.positions() : 0;
   for (; lines > 0; --lines, at.next(), y += shape.inner)
      reduce_line<R>(y, x + at.offset, line, reduce_float_columns<R>(y, x + at.offset, shape));
}
#endif

/// The same; which way, says the rule of `kernels/reduction.py` once more, for sizes that are known at run time only.
template <class R, class T>
SOFIE_KERNEL void reduce_axes(T *y, const T *x, const Reduction &shape)
{
#ifdef SOFIE_COLUMNS_ASSEMBLER
   constexpr bool is_float = std::is_same_v<T, float>;
   constexpr RowRule rule = row_rule_of<R>;
   if constexpr (is_float && (rule != RowRule::none || has_float_rows<R>)) {
      const bool whole = shape.inner == 1 && shape.is_fixed && shape.reduced.count == 0;
      if (whole && shape.run > 0 && shape.run <= reduced_row)
         return reduce_rows_of<R>(y, x, shape);
      if (reduce_pieces_of<R>(y, x, shape))
         return;
   }
   if constexpr (is_float && has_float_columns<R>)
      if (shape.reduced.count == 0 && shape.inner >= columns_together)
         return reduce_columns_of<R>(y, x, shape);
#endif
   reduce_lanes<R>(y, x, shape);
}

/// y = x reduced over the axes of `mask`; for `dynamic` see `Reduction`.
template <class R, class Y, class X, int Rank>
SOFIE_INLINE void reduce(Y y, X x, const Sizes<Rank> &shape, Size mask, Size dynamic)
{
   reduce_axes<R, typename Y::Element>(y.data(), x.data(), Reduction(shape.values, Rank, mask, dynamic));
}

/// The same for what only the lanes of registers have to be known for.
template <class R, class Y, class X, int Rank>
SOFIE_INLINE void reduce_by_lanes(Y y, X x, const Sizes<Rank> &shape, Size mask, Size dynamic)
{
   reduce_lanes<R, typename Y::Element>(y.data(), x.data(), Reduction(shape.values, Rank, mask, dynamic));
}

/// The same for rows of floats that follow each other, one number each.
template <class R, class Y, class X, int Rank>
SOFIE_INLINE void reduce_by_rows(Y y, X x, const Sizes<Rank> &shape, Size mask, Size dynamic)
{
#ifdef SOFIE_COLUMNS_ASSEMBLER
   reduce_rows_of<R>(y.data(), x.data(), Reduction(shape.values, Rank, mask, dynamic));
#else
   reduce_by_lanes<R>(y, x, shape, mask, dynamic);
#endif
}

/// The same for a few columns of floats, or for rows of them in pieces.
template <class R, class Y, class X, int Rank>
SOFIE_INLINE void reduce_by_pieces(Y y, X x, const Sizes<Rank> &shape, Size mask, Size dynamic)
{
#ifdef SOFIE_COLUMNS_ASSEMBLER
   reduce_pieces_of<R>(y.data(), x.data(), Reduction(shape.values, Rank, mask, dynamic));
#else
   reduce_by_lanes<R>(y, x, shape, mask, dynamic);
#endif
}

/// The same for many columns of floats.
template <class R, class Y, class X, int Rank>
SOFIE_INLINE void reduce_by_columns(Y y, X x, const Sizes<Rank> &shape, Size mask, Size dynamic)
{
#ifdef SOFIE_COLUMNS_ASSEMBLER
   reduce_columns_of<R>(y.data(), x.data(), Reduction(shape.values, Rank, mask, dynamic));
#else
   reduce_by_lanes<R>(y, x, shape, mask, dynamic);
#endif
}

/// The axes that a tensor names, as bits.
template <class I>
SOFIE_KERNEL Size axes_mask(const I *axes, Size count, Size rank)
{
   Size mask = 0;
   for (Size i = 0; i < count; ++i) {
      const Size axis = static_cast<Size>(axes[i]) < 0 ? static_cast<Size>(axes[i]) + rank : static_cast<Size>(axes[i]);
      if (axis < 0 || axis >= rank)
         throw std::out_of_range("a reduction over an axis that does not exist");
      if ((mask >> axis) & 1)
         throw std::invalid_argument("a reduction that names an axis twice");
      mask |= Size{1} << axis;
   }
   return mask;
}

/// The same over axes that are known at run time; `none_is_all`: no axis means all of them.
template <class R, bool KeepDims, class T, int YRank, class X, class A, int Rank>
SOFIE_INLINE void reduce_runtime(Owned<T, YRank> &y, X x, A axes, const Sizes<Rank> &shape, Size none_is_all,
                                 Size dynamic)
{
   Size mask = axes_mask(axes.data(), axes.size(), Rank);
   if (axes.size() == 0 && none_is_all)
      mask = (Size{1} << Rank) - 1;
   Sizes<YRank> result{};
   int at = 0;
   for (int a = 0; a < Rank; ++a) {
      const bool is_reduced = (mask >> a) & 1;
      if (KeepDims || !is_reduced)
         result[at++] = is_reduced ? 1 : shape[a];
   }
   y.resize(result);
   const Reduction reduction(shape.values, Rank, mask, dynamic);
   reduce_axes<R>(y.data(), static_cast<const T *>(x.data()), reduction);
}

} // namespace sofie

SOFIE_END

#endif
