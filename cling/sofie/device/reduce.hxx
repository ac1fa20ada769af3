/// \file
/// Reductions over axes: sums, products, extrema, norms.
#ifndef SOFIE_DEVICE_REDUCE_HXX
#define SOFIE_DEVICE_REDUCE_HXX

#include "sofie/device/base.hxx"

namespace sofie {
namespace device {

/// All work-items' values as one, which all of them may read in the next phase. `partial` has one place for each
/// work-item, `result` is one that nothing else writes.
template <int Items, class Group, class T, class Of, class Join>
SOFIE_DEVICE void fold_group(Group &group, T *partial, T *result, const Of &of, const Join &join)
{
   group.each([&](int item) { partial[item] = of(item); });
   for (int step = Items / 2; step > 0; step /= 2)
      group.each([&](int item) {
         if (item < step)
            partial[item] = join(partial[item], partial[item + step]);
      });
   group.each([&](int item) {
      if (item == 0)
         *result = partial[0];
   });
}

// A rule says what is added up (in the type `Sum<T>`) and what becomes of the sum. A rule with a `scale` has a first
// round that finds the largest `key`.

struct PlainRule {
   static constexpr bool has_scale = false;
   template <class T>
   using Sum = T;
   template <class T>
   SOFIE_DEVICE static T start()
   {
      return T(0);
   }
   template <class M, class T>
   SOFIE_DEVICE static T term(M, T x, T)
   {
      return x;
   }
   template <class T>
   SOFIE_DEVICE static T join(T a, T b)
   {
      return plus(a, b);
   }
   template <class T, class M, class S>
   SOFIE_DEVICE static T finish(M, S sum, S, Index)
   {
      return static_cast<T>(sum);
   }
};

struct ReduceSum : PlainRule {};

struct ReduceMean : PlainRule {
   /// Of integers towards zero, and 0 of none.
   template <class T, class M, class S>
   SOFIE_DEVICE static T finish(M, S sum, S, Index count)
   {
      if constexpr (std::is_floating_point_v<T>)
         return sum / static_cast<T>(count);
      else if constexpr (std::is_signed_v<T>)
         return count == 0 ? T(0) : static_cast<T>(static_cast<Index>(sum) / count);
      else
         return count == 0 ? T(0) : static_cast<T>(sum / static_cast<std::uint64_t>(count));
   }
};

struct ReduceL1 : PlainRule {
   template <class M, class T>
   SOFIE_DEVICE static T term(M m, T x, T)
   {
      if constexpr (std::is_floating_point_v<T>)
         return m.fabs(x);
      else
         return x < T(0) ? minus(T(0), x) : x;
   }
};

struct ReduceSumSquare : PlainRule {
   template <class M, class T>
   SOFIE_DEVICE static T term(M, T x, T)
   {
      return times(x, x);
   }
};

struct ReduceLogSum : PlainRule {
   template <class T, class M, class S>
   SOFIE_DEVICE static T finish(M m, S sum, S, Index)
   {
      return m.log(sum);
   }
};

struct ReduceProd : PlainRule {
   template <class T>
   SOFIE_DEVICE static T start()
   {
      return T(1);
   }
   template <class T>
   SOFIE_DEVICE static T join(T a, T b)
   {
      return times(a, b);
   }
};

/// The least number of a type.
template <class T>
SOFIE_DEVICE T least()
{
   if constexpr (std::is_floating_point_v<T>)
      return -static_cast<T>(HUGE_VAL);
   else if constexpr (std::is_signed_v<T>)
      return static_cast<T>(std::make_unsigned_t<T>(1) << (8 * sizeof(T) - 1));
   else
      return T(0);
}
template <class T>
SOFIE_DEVICE T most()
{
   if constexpr (std::is_floating_point_v<T>)
      return static_cast<T>(HUGE_VAL);
   else if constexpr (std::is_same_v<T, bool>)
      return true;
   else
      return static_cast<T>(~least<T>());
}

struct ReduceMax : PlainRule {
   template <class T>
   SOFIE_DEVICE static T start()
   {
      return least<T>();
   }
   template <class T>
   SOFIE_DEVICE static T join(T a, T b)
   {
      return maximum(a, b);
   }
};

struct ReduceMin : PlainRule {
   template <class T>
   SOFIE_DEVICE static T start()
   {
      return most<T>();
   }
   template <class T>
   SOFIE_DEVICE static T join(T a, T b)
   {
      return minimum(a, b);
   }
};

/// max + ln of the sum of e^(x - max)
struct ReduceLogSumExp : PlainRule {
   static constexpr bool has_scale = true;
   template <class M, class T>
   SOFIE_DEVICE static T key(M, T x)
   {
      return x;
   }
   template <class T>
   SOFIE_DEVICE static T scale(T largest)
   {
      return largest - largest == T(0) ? largest : T(0);
   }
   template <class M, class T>
   SOFIE_DEVICE static T term(M m, T x, T shift)
   {
      return m.exp(x - shift);
   }
   template <class T, class M, class S>
   SOFIE_DEVICE static T finish(M m, S sum, S shift, Index)
   {
      return m.log(sum) + shift;
   }
};

/// The root of the sum of squares, which are of numbers up to 1, or of integers in float64.
struct ReduceL2 : PlainRule {
   static constexpr bool has_scale = true;
   template <class T>
   using Sum = std::conditional_t<std::is_floating_point_v<T>, T, double>;
   template <class M, class T>
   SOFIE_DEVICE static Sum<T> key(M m, T x)
   {
      return m.fabs(static_cast<Sum<T>>(x));
   }
   template <class T>
   SOFIE_DEVICE static T scale(T largest)
   {
      return largest > T(0) && largest - largest == T(0) ? largest : T(1);
   }
   template <class M, class T>
   SOFIE_DEVICE static Sum<T> term(M, T x, Sum<T> scale)
   {
      if constexpr (std::is_floating_point_v<T>)
         return (x / scale) * (x / scale);
      else
         return static_cast<double>(x) * static_cast<double>(x);
   }
   template <class T, class M, class S>
   SOFIE_DEVICE static T finish(M m, S sum, S scale, Index)
   {
      const S root = m.sqrt(sum);
      if constexpr (std::is_floating_point_v<T>)
         return scale * root;
      else
         return root < static_cast<double>(most<T>()) ? static_cast<T>(root) : most<T>();
   }
};

/// Where the elements of a reduction are: those that are kept, and for each of these those that are reduced.
template <int Kept, int Over>
struct Reduced {
   Sizes<Kept> kept, kept_strides;
   Sizes<Over> over, over_strides;
   Index count;
};

/// One item for each result: for few elements.
template <class Rule, int Kept, int Over>
struct ReduceByItem {
   Reduced<Kept, Over> where;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *x) const
   {
      using S = typename Rule::template Sum<T>;
      x += offset_of(at.index, where.kept, where.kept_strides);
      S scale = S(0);
      if constexpr (Rule::has_scale) {
         scale = least<S>();
         for (Index i = 0; i < where.count; ++i)
            scale = maximum(scale, Rule::key(at.math, x[offset_of(i, where.over, where.over_strides)]));
         scale = Rule::scale(scale);
      }
      S sum = Rule::template start<S>();
      for (Index i = 0; i < where.count; ++i)
         sum = Rule::join(sum, Rule::term(at.math, x[offset_of(i, where.over, where.over_strides)], scale));
      y[at.index] = Rule::template finish<T>(at.math, sum, scale, where.count);
   }
};

/// One work-group for each result.
template <class T, class Rule, int Kept, int Over>
struct ReduceByGroup {
   Reduced<Kept, Over> where;

   using S = typename Rule::template Sum<T>;
   static constexpr int items = 128;
   struct Local {
      S partial[static_cast<std::size_t>(items)];
      S scale, sum;
   };

   template <class Group>
   SOFIE_DEVICE void operator()(Group &group, T *y, const T *x) const
   {
      using M = typename Group::MathOfIt;
      auto &local = group.local();
      x += offset_of(group.index(), where.kept, where.kept_strides);
      if constexpr (Rule::has_scale) {
         fold_group<items>(
            group, local.partial, &local.scale, [&](int item) { return largest(M{}, x, item); },
            [](S a, S b) { return maximum(a, b); });
      }
      fold_group<items>(
         group, local.partial, &local.sum, [&](int item) { return summed(M{}, x, item, scale(local)); },
         [](S a, S b) { return Rule::join(a, b); });
      group.last([&](int item) {
         if (item == 0)
            y[group.index()] = Rule::template finish<T>(M{}, local.sum, scale(local), where.count);
      });
   }

private:
   SOFIE_DEVICE static S scale(const Local &local)
   {
      if constexpr (Rule::has_scale)
         return Rule::scale(local.scale);
      else
         return S(0);
   }
   template <class M>
   SOFIE_DEVICE S largest(M m, const T *x, int item) const
   {
      S found = least<S>();
      for (Index i = item; i < where.count; i += items)
         found = maximum(found, Rule::key(m, x[offset_of(i, where.over, where.over_strides)]));
      return found;
   }
   template <class M>
   SOFIE_DEVICE S summed(M m, const T *x, int item, S scale) const
   {
      S sum = Rule::template start<S>();
      for (Index i = item; i < where.count; i += items)
         sum = Rule::join(sum, Rule::term(m, x[offset_of(i, where.over, where.over_strides)], scale));
      return sum;
   }
};

} // namespace device
} // namespace sofie

#endif
