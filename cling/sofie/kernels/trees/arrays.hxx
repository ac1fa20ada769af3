/// \file
/// Ensembles of decision trees as a model has them, and what all forms for evaluation have in common: the
/// numbers of an event that are asked for, and leaves with several targets.
#ifndef SOFIE_KERNELS_TREES_ARRAYS_HXX
#define SOFIE_KERNELS_TREES_ARRAYS_HXX

#include "sofie/simd.hxx"
#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// What becomes of the numbers that the trees give for one target.
enum class Aggregate { Sum, Average, Min, Max };

/// What a node asks. With `TreeMissing`, NaN takes the first child.
enum TreeMode : std::uint8_t { TreeLeaf = 0, TreeAtMost = 1, TreeEqual = 2, TreeMissing = 128 };

/// An integer as large as T, for its bits or the number of something instead of it.
template <class T>
using Outlet = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;

/// The trees as the model has them; see `sofie.Trees` in sofie_rdf/ops/trees.py.
template <class T, class L>
struct TreeArrays {
   const std::int32_t *roots, *features;
   const T *thresholds;
   const std::uint8_t *modes;
   const std::int32_t *children, *starts, *targets;
   const L *weights, *base;
   Size trees, nodes, entries, outputs;

   static void require(bool holds, const char *otherwise)
   {
      if (!holds)
         throw std::invalid_argument(otherwise);
   }

   SOFIE_INLINE Size mode(Size i) const { return modes[i] & ~TreeMissing; }
   SOFIE_INLINE bool is_leaf(Size i) const { return mode(i) == TreeLeaf; }
   SOFIE_INLINE bool takes_nan(Size i) const { return (modes[i] & TreeMissing) != 0; }
   SOFIE_INLINE std::int32_t child(Size i, Size side) const { return children[2 * i + side]; }
   SOFIE_INLINE Size entries_of(Size i) const { return starts[i + 1] - starts[i]; }
   /// What a leaf gives that has one target or none.
   SOFIE_INLINE T value(Size leaf) const { return entries_of(leaf) > 0 ? static_cast<T>(weights[starts[leaf]]) : T(0); }

   /// Every number is one that exists, and children come behind their parents: no cycle.
   void check() const
   {
      require(nodes < (Size(1) << 29), "trees: there are too many nodes");
      for (Size t = 0; t < trees; ++t)
         require(roots[t] >= 0 && roots[t] < nodes, "trees: a root does not exist");
      for (Size i = 0; i < nodes; ++i) {
         require(mode(i) <= TreeEqual, "trees: a node has an unknown mode");
         require(starts[i] >= 0 && starts[i] <= starts[i + 1] && starts[i + 1] <= entries,
                 "trees: the weights of a node do not exist");
         if (is_leaf(i))
            continue;
         require(features[i] >= 0 && features[i] < (1 << 24), "trees: a node has a feature that cannot exist");
         for (Size side = 0; side < 2; ++side)
            require(child(i, side) > i && child(i, side) < nodes, "trees: a child does not come behind its parent");
      }
      for (Size i = 0; i < entries; ++i)
         require(targets[i] >= 0 && targets[i] < outputs, "trees: a weight has a target that does not exist");
   }
};

/// The same trees, where x == t is two nodes: x <= t, but not x <= the number below t.
template <class T, class L>
class OrderedTrees {
   using Int = std::int32_t;

   Buffer<Int> roots_, features_, children_, starts_;
   Buffer<T> thresholds_;
   Buffer<std::uint8_t> modes_;

   static T below(T number)
   {
      const T infinity = static_cast<T>(__builtin_inf());
      // Nothing is at most NaN.
      if (number == -infinity)
         return static_cast<T>(__builtin_nan(""));
      if constexpr (sizeof(T) == 4)
         return __builtin_nextafterf(number, -infinity);
      else
         return __builtin_nextafter(number, -infinity);
   }

   void put(Size at, const TreeArrays<T, L> &a, Size node, T threshold, Size mode, Int first, Int second)
   {
      features_.data()[at] = a.features[node];
      thresholds_.data()[at] = threshold;
      modes_.data()[at] = static_cast<std::uint8_t>(mode);
      children_.data()[2 * at] = first;
      children_.data()[2 * at + 1] = second;
      starts_.data()[at] = a.starts[node];
   }

   void write_out(const TreeArrays<T, L> &a, const Int *place, Size nodes)
   {
      roots_ = Buffer<Int>(a.trees);
      features_ = Buffer<Int>(nodes);
      thresholds_ = Buffer<T>(nodes);
      modes_ = Buffer<std::uint8_t>(nodes);
      children_ = Buffer<Int>(2 * nodes);
      starts_ = Buffer<Int>(nodes + 1);
      for (Size t = 0; t < a.trees; ++t)
         roots_.data()[t] = place[a.roots[t]];
      for (Size i = 0; i < a.nodes; ++i) {
         const bool leaf = a.is_leaf(i);
         const Int at = place[i], first = leaf ? 0 : place[a.child(i, 0)], second = leaf ? 0 : place[a.child(i, 1)];
         if (a.mode(i) != TreeEqual) {
            put(at, a, i, a.thresholds[i], a.modes[i], first, second);
            continue;
         }
         put(at, a, i, a.thresholds[i], TreeAtMost | (a.takes_nan(i) ? TreeMissing : 0), at + 1, second);
         put(at + 1, a, i, below(a.thresholds[i]), TreeAtMost, second, first);
      }
      starts_.data()[nodes] = static_cast<Int>(a.entries);
      arrays = {roots_.data(),  features_.data(), thresholds_.data(), modes_.data(), children_.data(),
                starts_.data(), a.targets,        a.weights,          a.base,        a.trees,
                nodes,          a.entries,        a.outputs};
   }

public:
   TreeArrays<T, L> arrays;

   explicit OrderedTrees(const TreeArrays<T, L> &a) : arrays(a)
   {
      Buffer<Int> place(a.nodes);
      Int next = 0;
      for (Size i = 0; i < a.nodes; ++i) {
         place.data()[i] = next;
         next += a.mode(i) == TreeEqual ? 2 : 1;
      }
      if (next > a.nodes)
         write_out(a, place.data(), next);
   }
   OrderedTrees(const OrderedTrees &) = delete;
   OrderedTrees &operator=(const OrderedTrees &) = delete;
};

/// What a node has below it.
struct TreeShape {
   static constexpr std::int32_t none = -1, several = -2;

   std::int32_t levels; ///< the longest way to a leaf
   std::int32_t target; ///< the one target of all leaves, or none, or several
   std::int32_t leaves; ///< how many, up to a large number

   SOFIE_INLINE std::int32_t target_or_first() const { return target < 0 ? 0 : target; }
};

template <class T, class L>
Buffer<TreeShape> shapes_of(const TreeArrays<T, L> &a)
{
   Buffer<TreeShape> found(a.nodes);
   for (Size i = a.nodes; i-- > 0;) {
      TreeShape &own = found.data()[i];
      if (a.is_leaf(i)) {
         const Size count = a.entries_of(i);
         own = {0, count == 0 ? TreeShape::none : count == 1 ? a.targets[a.starts[i]] : TreeShape::several, 1};
         continue;
      }
      const TreeShape &l = found.data()[a.child(i, 0)], &r = found.data()[a.child(i, 1)];
      own.levels = (l.levels > r.levels ? l.levels : r.levels) + 1;
      own.target = l.target == TreeShape::none                           ? r.target
                   : r.target == TreeShape::none || l.target == r.target ? l.target
                                                                         : TreeShape::several;
      own.leaves = l.leaves + r.leaves < (1 << 20) ? l.leaves + r.leaves : 1 << 20;
   }
   return found;
}

/// What of an event is compared with thresholds: a feature, or its negative, with `instead` for NaN.
template <class T>
struct TreeColumn {
   std::int32_t feature;
   T factor, instead;

   SOFIE_INLINE T of(const T *x) const
   {
      const T value = x[feature];
      return factor * (value == value ? value : instead);
   }
};

/// The columns of an ensemble.
///
/// NaN is never at most a number. Where questions send it to their first child, it is as a rule with all of them that
/// send larger numbers there, too: then NaN is a number in between. Else there is a second column, in which the
/// question is turned round: -x <= -(the number above the threshold) takes the second child.
template <class T>
class TreeColumns {
   using Int = std::int32_t;

   Buffer<TreeColumn<T>> columns_;
   Buffer<Int> numbers_; ///< that of feature f is [2 f], that of its negative [2 f + 1]
   Buffer<char> turned_;

   /// What the questions about a feature say of NaN.
   struct Missing {
      T first, other; ///< the lowest threshold of a node whose first child takes NaN, the highest one of others
      bool any, odd;
   };

   template <class L>
   Buffer<Missing> missing_of(const TreeArrays<T, L> &a) const
   {
      const T infinity = static_cast<T>(__builtin_inf());
      Buffer<Missing> found(features);
      for (Size f = 0; f < features; ++f)
         found.data()[f] = {infinity, -infinity, false, false};
      for (Size i = 0; i < a.nodes; ++i) {
         if (a.is_leaf(i))
            continue;
         Missing &own = found.data()[a.features[i]];
         const T threshold = a.thresholds[i];
         if (a.takes_nan(i)) {
            own.any = true;
            own.odd = own.odd || threshold != threshold;
            own.first = threshold < own.first ? threshold : own.first;
         } else {
            own.other = threshold > own.other ? threshold : own.other;
         }
      }
      return found;
   }

public:
   Int features = 0; ///< how many the events must have

   TreeColumns() = default;
   template <class L>
   explicit TreeColumns(const TreeArrays<T, L> &a)
   {
      for (Size i = 0; i < a.nodes; ++i)
         if (!a.is_leaf(i) && a.features[i] >= features)
            features = a.features[i] + 1;
      const Buffer<Missing> missing = missing_of(a);
      turned_ = Buffer<char>(features);
      for (Size f = 0; f < features; ++f) {
         const Missing &own = missing.data()[f];
         turned_.data()[f] = own.any && (own.odd || !(own.other < own.first));
      }
      numbers_ = Buffer<Int>(2 * features);
      for (Size i = 0; i < a.nodes; ++i)
         if (!a.is_leaf(i))
            numbers_.data()[2 * a.features[i] + is_negated(a, i)] = 1;
      Int count = 0;
      for (Size i = 0; i < 2 * features; ++i)
         count += numbers_.data()[i];
      columns_ = Buffer<TreeColumn<T>>(count);
      count = 0;
      for (Int i = 0; i < 2 * features; ++i)
         if (numbers_.data()[i]) {
            const Missing &own = missing.data()[i / 2];
            const bool is_number = own.any && !turned_.data()[i / 2];
            columns_.data()[count] = {i / 2, static_cast<T>(i % 2 ? -1 : 1),
                                      is_number ? own.first : static_cast<T>(__builtin_nan(""))};
            numbers_.data()[i] = count++;
         }
   }

   SOFIE_INLINE Size count() const { return columns_.size(); }
   SOFIE_INLINE const TreeColumn<T> *data() const { return columns_.data(); }

   template <class L>
   bool is_negated(const TreeArrays<T, L> &a, Size i) const
   {
      return a.takes_nan(i) && turned_.data()[a.features[i]];
   }
   template <class L>
   Int column(const TreeArrays<T, L> &a, Size i) const
   {
      return numbers_.data()[2 * a.features[i] + is_negated(a, i)];
   }
   /// The child that a number takes which is at most the threshold, or the other one.
   template <class L>
   Int child(const TreeArrays<T, L> &a, Size i, bool at_most) const
   {
      return a.child(i, at_most == is_negated(a, i) ? 1 : 0);
   }
   template <class L>
   T threshold(const TreeArrays<T, L> &a, Size i) const
   {
      const T threshold = a.thresholds[i];
      if (!is_negated(a, i))
         return threshold;
      const T infinity = static_cast<T>(__builtin_inf());
      if (threshold == infinity)
         return static_cast<T>(__builtin_nan(""));
      // No number is at most NaN: all of them take the second child.
      if (threshold != threshold)
         return infinity;
      if constexpr (sizeof(T) == 4)
         return -__builtin_nextafterf(threshold, infinity);
      else
         return -__builtin_nextafter(threshold, infinity);
   }
};

/// What leaves say that have several targets; those that say the same have one number.
template <class L>
class LeafLists {
   using Int = std::int32_t;

   Buffer<Int> starts_, targets_, slots_;
   Buffer<L> weights_;
   Size count_ = 0, width_ = 0;

   /// NaN stands for a target of which no tree has said anything.
   template <Aggregate How>
   SOFIE_INLINE static double together(double total, double weight)
   {
      if constexpr (How == Aggregate::Min)
         return total <= weight ? total : weight;
      else if constexpr (How == Aggregate::Max)
         return total >= weight ? total : weight;
      else
         return total + weight;
   }

   template <class E>
   static Buffer<E> first_of(const Buffer<E> &all, Size count)
   {
      Buffer<E> kept(count);
      __builtin_memcpy(static_cast<void *>(kept.data()), all.data(), static_cast<std::size_t>(count) * sizeof(E));
      return kept;
   }

   template <class T>
   static std::uint64_t hash(const TreeArrays<T, L> &a, Size leaf)
   {
      std::uint64_t found = 1469598103934665603U;
      for (Size i = a.starts[leaf]; i < a.starts[leaf + 1]; ++i) {
         std::uint64_t weight = 0;
         __builtin_memcpy(&weight, a.weights + i, sizeof(L));
         found = (found ^ weight ^ static_cast<std::uint64_t>(a.targets[i]) << 32) * 0x9e3779b97f4a7c15U;
         found ^= found >> 29;
      }
      return found;
   }
   template <class T>
   bool is_same(const TreeArrays<T, L> &a, Size leaf, Size number) const
   {
      const Size first = a.starts[leaf], count = a.entries_of(leaf), own = starts_.data()[number];
      return count == starts_.data()[number + 1] - own &&
             !__builtin_memcmp(targets_.data() + own, a.targets + first,
                               static_cast<std::size_t>(count) * sizeof(Int)) &&
             !__builtin_memcmp(weights_.data() + own, a.weights + first, static_cast<std::size_t>(count) * sizeof(L));
   }

public:
   LeafLists() = default;
   template <class T>
   explicit LeafLists(const TreeArrays<T, L> &a) : starts_(a.nodes + 1), targets_(a.entries), weights_(a.entries)
   {
      Size slots = 16;
      while (slots < 2 * a.nodes)
         slots *= 2;
      slots_ = Buffer<Int>(slots);
   }
   template <class T>
   Int number_of(const TreeArrays<T, L> &a, Size leaf)
   {
      const Size mask = slots_.size() - 1;
      Size slot = static_cast<Size>(hash(a, leaf)) & mask;
      for (; slots_.data()[slot] > 0; slot = (slot + 1) & mask)
         if (is_same(a, leaf, slots_.data()[slot] - 1))
            return slots_.data()[slot] - 1;
      Int end = starts_.data()[count_];
      for (Size i = a.starts[leaf]; i < a.starts[leaf + 1]; ++i, ++end) {
         targets_.data()[end] = a.targets[i];
         weights_.data()[end] = a.weights[i];
      }
      starts_.data()[++count_] = end;
      slots_.data()[slot] = static_cast<Int>(count_);
      return static_cast<Int>(count_ - 1);
   }
   /// Gives back what is not needed any more. Lists that all name the same targets, from 0 on, are rows of weights.
   void finish()
   {
      const Size entries = starts_.data()[count_], width = count_ > 0 ? starts_.data()[1] : 0;
      bool same = width > 0;
      for (Size n = 0; n < count_; ++n)
         same = same && starts_.data()[n] == n * width;
      same = same && entries == count_ * width;
      for (Size i = 0; i < entries && same; ++i)
         same = targets_.data()[i] == i % width;
      width_ = same ? width : 0;
      starts_ = first_of(starts_, same ? 0 : count_ + 1);
      targets_ = first_of(targets_, same ? 0 : entries);
      weights_ = first_of(weights_, entries);
      slots_ = Buffer<Int>();
   }

   /// totals[target] take in what the list says.
   template <Aggregate How>
   SOFIE_INLINE void add(Size number, double *totals) const
   {
      if (width_ > 0) {
         const L *const weights = weights_.data() + number * width_;
         for (Size k = 0; k < width_; ++k)
            totals[k] = together<How>(totals[k], static_cast<double>(weights[k]));
         return;
      }
      for (Size i = starts_.data()[number]; i < starts_.data()[number + 1]; ++i) {
         double &total = totals[targets_.data()[i]];
         total = together<How>(total, static_cast<double>(weights_.data()[i]));
      }
   }
};

} // namespace sofie

SOFIE_END

#endif
