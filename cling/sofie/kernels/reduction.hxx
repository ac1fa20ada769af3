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
#include "sofie/kernels/reduction/pieces.hxx"
#include "sofie/kernels/softmax/rows.hxx"
#include "sofie/math.hxx"
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

/// An operator that combines a term of each element: `Accumulated<T>` is the type for that, `rule` what it does with
/// floats.
template <class Combine, class Term, RowRule Rule = RowRule::none>
struct PlainReduction {
   using Combination = Combine;
   using Terms = Term;
   static constexpr RowRule rule = Rule;
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

struct ReduceSum : PlainReduction<Total, AsItIs, RowRule::sum> {};
struct ReduceMax : PlainReduction<Largest, AsItIs, RowRule::largest> {};
struct ReduceMin : PlainReduction<Least, AsItIs, RowRule::least> {};
struct ReduceProd : PlainReduction<Product, AsItIs, RowRule::product> {};
struct ReduceL1 : PlainReduction<Total, Magnitude, RowRule::magnitudes> {};
struct ReduceSumSquare : PlainReduction<Total, Squared, RowRule::squares> {};

/// Of integers towards zero, and 0 for none.
struct ReduceMean : PlainReduction<Total, AsItIs, RowRule::sum> {
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

struct ReduceLogSum : PlainReduction<Total, AsItIs, RowRule::sum> {
   template <class V>
   SOFIE_INLINE static V finished(V v, Size)
   {
      return log(v);
   }
};

template <class V>
struct ExpAbove {
   V shift;
   SOFIE_INLINE V operator()(V v) const { return exp(v - shift); }
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
struct ReduceL2 : PlainReduction<Total, Squared, RowRule::squares> {
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

/// Results of a few packs of neighbours each: as many of them as a pack has lanes are computed at once, each as
/// `line_results` does.
template <class R>
struct ManyShort {
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

/// All results of a line, which begins anywhere.
template <class R, class T, int N>
SOFIE_INLINE void reduce_line(T *y, const T *x, Line<T, N> &line)
{
   using V = PackN<typename R::template Accumulated<T>, N>;
   const Size inner = line.shape.inner;
   for (Size j = 0; j < inner; j += N) {
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
   if constexpr (R::is_plain)
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
      reduce_line<R>(y, x + at.offset, line);
}

/// Whether results need another look, after which they are not plain: norms, and logarithms of sums of exponentials.
template <class R>
inline constexpr bool is_norm = std::is_same_v<R, ReduceL2>;
template <class R>
inline constexpr bool is_log_sum = std::is_same_v<R, ReduceLogSumExp>;
template <class R>
inline constexpr bool has_columns = !is_norm<R> && !is_log_sum<R>;

#ifdef SOFIE_PIECES_ASSEMBLER
/// How far from the first one the numbers of a result lie.
SOFIE_INLINE Size offset_of(const Reduction &s, Size result)
{
   Size offset = 0;
   for (int a = s.kept.count - 1; a >= 0; result /= s.kept.sizes[a--])
      offset += result % s.kept.sizes[a] * s.kept.strides[a];
   return offset;
}

/// Results of rows in the general way where they are not `right`.
template <class R, class Right>
SOFIE_INLINE void correct(float *y, const float *x, const Reduction &s, Size first, Size count, Right right)
{
   constexpr int n = lanes<float>;
   if (!any<Pack<float>>(~right & (lane_numbers<Pack<float>>() < static_cast<std::int32_t>(count))))
      return;
   for (Size i = first; i < first + count; ++i)
      if (!right[i - first]) {
         alignas(64) float again[n];
         store(again, R::template results<Pack<float>>(Line<float, n>{x + offset_of(s, i), x + s.inputs, s, true}));
         y[i] = again[0];
      }
}

/// What is done with the results in the end; norms that are infinite, tiny or NaN are found in the general way.
template <class R>
SOFIE_KERNEL void finish(float *y, const float *x, const Reduction &s)
{
   using V = Pack<float>;
   constexpr int n = lanes<float>;
   const Size results = s.kept.positions() * s.inner;
   for (Size i = 0; i < results; i += n) {
      const Size some = results - i < n ? results - i : n;
      const V v = load_some<n>(y + i, some);
      if constexpr (is_norm<R>) {
         store_some(y + i, sqrt(v), some);
         correct<R>(y, x, s, i, some, (v > splat<V>(0x1p-90f)) & (v < splat<V>(MathOf<float>::infinity)));
      } else {
         store_some(y + i, R::finished(v, s.count), some);
      }
   }
}

/// y = the logarithms of sums of exponentials of rows.
template <class R>
SOFIE_KERNEL void log_sums_of_rows(float *y, const float *x, const Reduction &s)
{
   using V = Pack<float>;
   constexpr int n = lanes<float>;
   const Size rows = s.kept.positions();
   const V infinity = splat<V>(MathOf<float>::infinity);
   alignas(64) float most[n] = {}, sums[n] = {};
   for (Size i = 0; i < rows; i += n) {
      const Size some = rows - i < n ? rows - i : n;
      softmax_statistics<false>(softmax_rows_of(nullptr, x + i * s.run, some, s.run, most, sums));
      const V sum = load<n>(sums), largest = load<n>(most);
      store_some(y + i, log(sum) + largest, some);
      correct<R>(y, x, s, i, some, (abs(largest) < infinity) & (sum < infinity));
   }
}

/// The same for rows of floats that follow each other, one number each.
template <class R>
SOFIE_KERNEL void reduce_rows_of(float *y, const float *x, const Reduction &s)
{
   if constexpr (is_log_sum<R>) {
      constexpr Size most = 8192; // Sums of more are pairwise.
      return s.run > 0 && s.run <= most ? log_sums_of_rows<R>(y, x, s) : reduce_lanes<R>(y, x, s);
   } else {
      reduce_rows<R::rule>(y, x, s.kept.positions(), s.run);
      finish<R>(y, x, s);
   }
}

/// The same for columns of rows that follow each other.
template <class R>
SOFIE_KERNEL void reduce_columns_of(float *y, const float *x, const Reduction &s)
{
   reduce_columns<R::rule>(y, x, s.kept.positions(), s.run, s.inner);
   finish<R>(y, x, s);
}

/// The same for rows that are not whole in memory: the pieces of a line are those of a row, or, where rows fit into a
/// register, rows. What several sets of rows give is added up.
template <class R>
SOFIE_KERNEL void reduce_pieces_of(float *y, const float *x, const Reduction &s)
{
   using C = CombinationOf<R::rule>;
   constexpr Size n = lanes<float>, together = 512;
   alignas(64) float more[static_cast<std::size_t>(together)];
   WalkedAxes sets = s.reduced, outer = s.kept;
   ReducedPieces of = pieces_of_rows(1, s.run);
   if (s.run <= n) {
      const Size last = --sets.count, step = sets.strides[last];
      of = {1, 0, 1, sets.sizes[last], step, 4 * step, s.run, 0};
   }
   const Size count = sets.positions();
   if (count == 0 || count > most_pieces)
      return reduce_lanes<R>(y, x, s); // Whose sums are pairwise.
   if (outer.count > 0)
      of.line = outer.strides[--outer.count];
   const Size rows = s.kept.count > 0 ? s.kept.sizes[outer.count] : 1;
   Odometer at(outer);
   float *to = y;
   for (Size o = outer.positions(); o > 0; --o, at.next())
      for (Size done = 0; done < rows; done += together, to += of.lines) {
         of.lines = rows - done < together ? rows - done : together;
         Odometer set(sets);
         for (Size k = 0; k < count; ++k, set.next()) {
            reduce_folded<R::rule, PieceKind::part>(k ? more : to, x + at.offset + set.offset + done * of.line, of);
            for (Size i = 0; k && i < of.lines; i += n) {
               const Size some = of.lines - i < n ? of.lines - i : n;
               store_some(to + i, C::combined(load_some<lanes<float>>(to + i, some), load<lanes<float>>(more + i)), some);
            }
         }
      }
   finish<R>(y, x, s);
}
#endif

/// How a reduction goes through its tensor; `found`: as the sizes say that it is given.
enum class ReductionWay { lanes, rows, columns, pieces, found };

/// From so many columns on they are not in the lanes together with other rows.
inline constexpr Size least_columns = 4;

/// The way that `kernels/reduction.py` chooses.
template <class R>
SOFIE_INLINE ReductionWay reduction_way(const Reduction &s)
{
   if (s.inner == 1 && s.is_fixed) {
      if (s.reduced.count == 0)
         return ReductionWay::rows;
      return is_log_sum<R> ? ReductionWay::lanes : ReductionWay::pieces;
   }
   const bool columns = s.reduced.count == 0 && (s.inner >= least_columns || !s.is_fixed);
   return columns && has_columns<R> ? ReductionWay::columns : ReductionWay::lanes;
}

/// y = the reductions of x, in the order of the axes that are kept.
template <ReductionWay Way, class R, class T>
SOFIE_KERNEL void reduce_axes(T *y, const T *x, const Reduction &shape)
{
#ifdef SOFIE_PIECES_ASSEMBLER
   if constexpr (std::is_same_v<T, float> && Way != ReductionWay::lanes) {
      const ReductionWay way = Way == ReductionWay::found ? reduction_way<R>(shape) : Way;
      if constexpr (Way == ReductionWay::rows || Way == ReductionWay::found)
         if (way == ReductionWay::rows)
            return reduce_rows_of<R>(y, x, shape);
      if constexpr (Way == ReductionWay::columns || (Way == ReductionWay::found && has_columns<R>))
         if (way == ReductionWay::columns)
            return reduce_columns_of<R>(y, x, shape);
      if constexpr (Way == ReductionWay::pieces || (Way == ReductionWay::found && !is_log_sum<R>))
         if (way == ReductionWay::pieces)
            return reduce_pieces_of<R>(y, x, shape);
   }
#endif
   reduce_lanes<R>(y, x, shape);
}

/// y = x reduced over the axes of `mask`; for `dynamic` see `Reduction`.
template <ReductionWay Way, class R, class Y, class X, int Rank>
SOFIE_INLINE void reduce(Y y, X x, const Sizes<Rank> &shape, Size mask, Size dynamic)
{
   reduce_axes<Way, R, typename Y::Element>(y.data(), x.data(), Reduction(shape.values, Rank, mask, dynamic));
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
   reduce_axes<ReductionWay::found, R>(y.data(), static_cast<const T *>(x.data()), reduction);
}

} // namespace sofie

SOFIE_END

#endif
