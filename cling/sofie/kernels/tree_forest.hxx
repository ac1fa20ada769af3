/// \file
/// Ensembles of decision trees, as they are packed for evaluation.
///
/// Where trees are ranked, that is done by tree_ranks.hxx; else they are crowns of numbers, see trees.hxx, and walks.
#ifndef SOFIE_KERNELS_TREE_FOREST_HXX
#define SOFIE_KERNELS_TREE_FOREST_HXX

#include "sofie/kernels/tree_ranks.hxx"

// g++ warns that packs wider than its target's registers are passed in another way than with wider
// registers. Nothing here is passed: all functions are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

SOFIE_BEGIN

namespace sofie {

/// What becomes of the numbers that the trees give for one target.
enum class Aggregate { Sum, Average, Min, Max };

/// What a node asks. With `TreeMissing`, NaN takes the first child.
enum TreeMode : std::uint8_t { TreeLeaf = 0, TreeAtMost = 1, TreeEqual = 2, TreeMissing = 128 };

/// How many events a block has: two packs, so that one hides the latency of the other.
template <class T>
inline constexpr int tree_block = 2 * lanes<T>;

/// Where a complete tree stops to be cheaper than a walk; less where trees are ranked, so that there is less to
/// compile.
#ifdef SOFIE_TREE_RANKS
template <class T>
inline constexpr int crown_levels = lanes<T> >= 8 ? 4 : 3;
#else
template <class T>
inline constexpr int crown_levels = lanes<T> >= 8   ? 5
                                    : lanes<T> >= 4 ? 4
                                                    : 3;
#endif

/// Flatter trees get as many levels: fewer kinds.
inline constexpr int least_levels = 3;

/// Up to which depth the events of a block are done faster side by side than by ranks.
template <class T>
inline constexpr int shallow_levels = lanes<T> >= 16 ? 4 : 3;

/// From how many events on a block is worth its lanes that are idle.
template <class T>
inline constexpr Size fewest_in_block = lanes<T> >= 8 ? 4 : 3;

#ifdef SOFIE_TREE_RANKS
/// The same where an event alone is ranked.
template <class T>
inline constexpr Size fewest_in_ranked_block = tree_block<T> / 2;
#endif

/// To the left if x[column] <= threshold. The number of a column is that of a feature that is used.
template <class T>
struct CrownNode {
   T threshold;
   std::int32_t column;
};

/// To `next` if x[column] <= threshold, else to its neighbour `next + 1`. A negative column is the
/// complement of one that is compared for equality. Behind the columns of features is one of NaN,
/// which always leads to the neighbour: a leaf is its own neighbour, and its threshold is its value.
template <class T>
struct WalkNode {
   T threshold;
   std::int32_t column;
   std::int32_t next;
};

/// An integer as large as T: what the crown of a tree ends in.
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

   Size mode(Size i) const { return modes[i] & ~TreeMissing; }
   Size child(Size i, Size side) const { return children[2 * i + side]; }

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
         if (mode(i) == TreeLeaf)
            continue;
         require(features[i] >= 0 && features[i] < (1 << 24), "trees: a node has a feature that cannot exist");
         for (Size side = 0; side < 2; ++side)
            require(child(i, side) > i && child(i, side) < nodes, "trees: a child does not come behind its parent");
      }
      for (Size i = 0; i < entries; ++i)
         require(targets[i] >= 0 && targets[i] < outputs, "trees: a weight has a target that does not exist");
   }
};

/// All trees of an ensemble in the form in which they are evaluated.
template <class T, class L, Aggregate How>
class Forest {
   using Arrays = TreeArrays<T, L>;
   using Int = std::int32_t;

   /// What a node of the model has below it.
   struct Below {
      Int levels; ///< the longest way to a leaf
      Int crown;  ///< the longest way to something that does not belong to a crown
      Int target; ///< the one target of all its leaves, -1 for none, -2 for several
      Int leaves; ///< how many, up to a large number
      bool equality;
   };

   static int smaller_of(int a, int b) { return a < b ? a : b; }
   static Int larger_of(Int a, Int b) { return a > b ? a : b; }

   static Int common_target(Int a, Int b) { return a == -1 ? b : b == -1 ? a : a == b ? a : -2; }

   static Buffer<Below> examined(const Arrays &a)
   {
      Buffer<Below> found(a.nodes);
      for (Size i = a.nodes; i-- > 0;) {
         Below &own = found.data()[i];
         if (a.mode(i) == TreeLeaf) {
            const Size count = a.starts[i + 1] - a.starts[i];
            own = {0, 0, count == 0 ? -1 : count == 1 ? a.targets[a.starts[i]] : -2, 1, false};
         } else {
            const Below &l = found.data()[a.child(i, 0)], &r = found.data()[a.child(i, 1)];
            own.levels = larger_of(l.levels, r.levels) + 1;
            own.equality = l.equality || r.equality || a.mode(i) == TreeEqual;
            own.crown = a.mode(i) == TreeEqual ? 0 : larger_of(l.crown, r.crown) + 1;
            own.target = common_target(l.target, r.target);
            own.leaves = smaller_of(l.leaves + r.leaves, 1 << 20);
         }
      }
      return found;
   }

   /// Which features are used, and with which sign: the columns of a block.
   void choose_columns(const Arrays &a)
   {
      for (Size i = 0; i < a.nodes; ++i)
         if (a.mode(i) != TreeLeaf)
            features = larger_of(features, a.features[i] + 1);
      Buffer<Int> number(2 * features);
      for (Size i = 0; i < a.nodes; ++i)
         if (a.mode(i) != TreeLeaf)
            number.data()[2 * a.features[i] + is_negated(a, i)] = 1;
      for (Size i = 0; i < 2 * features; ++i)
         columns += number.data()[i];
      sources_ = Buffer<Int>(columns);
      Int next = 0;
      for (Int i = 0; i < 2 * features; ++i)
         if (number.data()[i]) {
            sources_.data()[next] = i;
            number.data()[i] = next++;
         }
      numbers_ = static_cast<Buffer<Int> &&>(number);
   }

   /// NaN is never at most a number. Where it takes the first child, the question is turned round:
   /// -x <= -(the number above the threshold) takes the second child.
   static bool is_negated(const Arrays &a, Size i) { return (a.modes[i] & TreeMissing) != 0; }

   static T question(const Arrays &a, Size i)
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

   Int nan_column() const { return static_cast<Int>(columns); }
   Int column(const Arrays &a, Size i) const { return numbers_.data()[2 * a.features[i] + is_negated(a, i)]; }

   /// Walks for everything that is below crowns. `place[i]` is where node i stands, or -1.
   struct Layout {
      Buffer<WalkNode<T>> nodes;
      Buffer<Int> node_at, place;
      Int used = 0, done = 0;

      explicit Layout(const Arrays &a) : nodes(3 * a.nodes + 1), node_at(3 * a.nodes + 1), place(a.nodes)
      {
         for (Size i = 0; i < a.nodes; ++i)
            place.data()[i] = -1;
      }
      /// A node of the model takes the next place; if it has one, here is only the way to it.
      void put(Int node, Int nan_column)
      {
         WalkNode<T> &slot = nodes.data()[used];
         slot.column = nan_column;
         Int &known = place.data()[node];
         slot.next = (known < 0 ? used : known) - 1;
         node_at.data()[used] = known < 0 ? node : -1;
         if (known < 0)
            known = used;
         ++used;
      }
   };

   /// Where a node stands. What is below it follows at once: few cache lines for a walk.
   Int placed(const Arrays &a, Int node, Layout &layout) const
   {
      if (layout.place.data()[node] < 0)
         layout.put(node, nan_column());
      for (; layout.done < layout.used; ++layout.done) {
         const Int i = layout.node_at.data()[layout.done];
         WalkNode<T> &slot = layout.nodes.data()[layout.done];
         if (i < 0)
            continue;
         if (a.mode(i) == TreeLeaf) {
            slot.threshold = value(a, i);
            continue;
         }
         const Int side = is_negated(a, i) ? 1 : 0;
         slot.threshold = question(a, i);
         slot.column = a.mode(i) == TreeEqual ? ~column(a, i) : column(a, i);
         slot.next = layout.used;
         layout.put(static_cast<Int>(a.child(i, side)), nan_column());
         layout.put(static_cast<Int>(a.child(i, 1 - side)), nan_column());
      }
      return layout.place.data()[node];
   }

   /// The nodes of a complete tree below `root`, whose places in the model the last `1 << depth` of `heap` are.
   void grow_nodes(const Arrays &a, Int root, int depth, CrownNode<T> *to, Int *heap) const
   {
      const int inner = (1 << depth) - 1;
      heap[0] = root;
      for (int i = 0; i < inner; ++i) {
         const Int own = heap[i];
         if (a.mode(own) == TreeAtMost) {
            const Int side = is_negated(a, own) ? 1 : 0;
            to[i] = {question(a, own), column(a, own)};
            heap[2 * i + 1] = static_cast<Int>(a.child(own, side));
            heap[2 * i + 2] = static_cast<Int>(a.child(own, 1 - side));
         } else {
            to[i] = {static_cast<T>(__builtin_nan("")), 0};
            heap[2 * i + 1] = heap[2 * i + 2] = own;
         }
      }
   }
   /// The complete tree with `depth` levels below a root; what is no question of it leads on as it is.
   void grow_crown(const Arrays &a, Int root, int depth, bool finished, Layout &layout, Size &node, Size &outlet)
   {
      Int heap[2 << 6];
      const int inner = (1 << depth) - 1;
      grow_nodes(a, root, depth, crowns_.data() + node, heap);
      node += inner;
      for (int i = inner; i <= 2 * inner; ++i)
         outlets_.data()[outlet++] = finished ? bits<Outlet<T>>(value(a, heap[i])) : placed(a, heap[i], layout);
   }

   static T value(const Arrays &a, Size leaf)
   {
      return a.mode(leaf) == TreeLeaf && a.starts[leaf] < a.starts[leaf + 1] ? static_cast<T>(a.weights[a.starts[leaf]])
                                                                             : T(0);
   }

   int crown_depth(const Below &tree) const
   {
      // A full tree of 7 or 8 levels fits into a smaller crown and one block below each of its outlets.
      if (ranked_ && tree.levels > most_ && tree.levels <= most_ + 3 && tree.leaves > 1 << (tree.levels - 2))
         return tree.levels - 3;
      return larger_of(smaller_of(tree.crown, most_), least_levels);
   }
   bool is_walked(const Below &tree) const { return tree.equality || tree.levels > most_; }

   /// Trees in the order of their targets.
   static Buffer<Int> by_target(const Arrays &a, const Buffer<Below> &below)
   {
      Buffer<Int> starts(a.outputs + 1), order(a.trees);
      for (Size t = 0; t < a.trees; ++t)
         ++starts.data()[target_of(below.data()[a.roots[t]]) + 1];
      for (Size k = 0; k < a.outputs; ++k)
         starts.data()[k + 1] += starts.data()[k];
      for (Size t = 0; t < a.trees; ++t)
         order.data()[starts.data()[target_of(below.data()[a.roots[t]])]++] = static_cast<Int>(t);
      return order;
   }
   static Int target_of(const Below &tree) { return tree.target < 0 ? 0 : tree.target; }

   /// The crowns of all trees; those of one kind follow each other.
   void grow(const Arrays &a, const Buffer<Below> &below)
   {
      ranked_ = false;
      most_ = crown_levels<T>;
      Size inner = 0, outer = 0;
      for (Size t = 0; t < trees; ++t) {
         const int depth = crown_depth(below.data()[a.roots[t]]);
         inner += (Size(1) << depth) - 1;
         outer += Size(1) << depth;
      }
      crowns_ = Buffer<CrownNode<T>>(inner);
      outlets_ = Buffer<Outlet<T>>(outer);
      targets_ = Buffer<Int>(trees);
      const Buffer<Int> order = by_target(a, below);
      Layout layout(a);
      Size node = 0, outlet = 0, number = 0;
      for (int kind = 0; kind < kinds; ++kind) {
         counts[kind] = 0;
         for (Size i = 0; i < trees; ++i) {
            const Int root = a.roots[order.data()[i]];
            const Below &tree = below.data()[root];
            if (crown_depth(tree) != depth_of(kind) || is_walked(tree) != walks(kind))
               continue;
            grow_crown(a, root, depth_of(kind), !walks(kind) && !lists, layout, node, outlet);
            targets_.data()[number++] = target_of(tree);
            ++counts[kind];
         }
      }
      keep_walks(a, layout);
   }

#ifdef SOFIE_TREE_RANKS
   /// Leaves get numbers when they are met.
   struct Leaves {
      Buffer<Int> number, node, block, roots;
      Size count = 0;

      explicit Leaves(const Arrays &a) : number(a.nodes), node(a.nodes), block(a.nodes)
      {
         for (Size i = 0; i < a.nodes; ++i)
            number.data()[i] = block.data()[i] = -1;
      }
      Int number_of(Int leaf)
      {
         Int &known = number.data()[leaf];
         if (known < 0) {
            node.data()[count] = leaf;
            known = static_cast<Int>(count++);
         }
         return known;
      }
   };
   using Source = RankedSource<T, Outlet<T>>;

   /// What a way out of a crown or block leads to: a leaf, or a block of this tree, which may be new.
   Outlet<T> way_out(const Arrays &a, Int node, Leaves &leaves, const RankedTree &tree, Source &to, bool &onwards)
   {
      onwards = a.mode(node) != TreeLeaf;
      if (!onwards)
         return lists ? static_cast<Outlet<T>>(leaves.number_of(node)) : bits<Outlet<T>>(value(a, node));
      Int &known = leaves.block.data()[node];
      if (known < tree.block) {
         known = static_cast<Int>(to.blocks);
         if (to.blocks < leaves.roots.size())
            leaves.roots.data()[to.blocks] = node;
         ++to.blocks;
      }
      return known;
   }

   /// All trees as they are ranked; false if nodes that several ways lead to would make it too many blocks.
   bool grow_ranked(const Arrays &a, const Buffer<Below> &below, Leaves &leaves, Source &to)
   {
      ranked_ = true;
      most_ = most_ranked_depth;
      Size outlets = 0, inner = 0;
      bool any_walked = false;
      for (Size t = 0; t < trees; ++t) {
         const Below &tree = below.data()[a.roots[t]];
         outlets += Size(1) << crown_depth(tree);
         any_walked = any_walked || is_walked(tree);
      }
      for (Size i = 0; any_walked && i < a.nodes; ++i)
         inner += a.mode(i) != TreeLeaf;
      to.trees = Buffer<RankedTree>(trees);
      to.crown_nodes = outlets - trees;
      to.nodes = Buffer<CrownNode<T>>(to.crown_nodes + inner * block_nodes);
      to.outlets = Buffer<Outlet<T>>(outlets);
      to.onwards = Buffer<std::uint64_t>(trees);
      to.made = Buffer<RankedBlock<Outlet<T>>>(inner);
      leaves.roots = Buffer<Int>(inner);
      const Buffer<Int> order = by_target(a, below);
      RankedTree tree{};
      Size number = 0;
      for (int kind = 0; kind < kinds; ++kind)
         for (Size i = 0; i < trees; ++i) {
            const Int root = a.roots[order.data()[i]];
            const Below &found = below.data()[root];
            tree.depth = depth_of(kind);
            tree.walks = walks(kind);
            if (crown_depth(found) != tree.depth || is_walked(found) != tree.walks)
               continue;
            tree.target = target_of(found);
            if (!grow_one(a, root, tree, leaves, to, to.onwards.data()[number]))
               return false;
            to.trees.data()[number++] = tree;
            tree = {tree.node + (Size(1) << tree.depth) - 1,
                    tree.outlet + (Size(1) << tree.depth),
                    to.blocks,
                    0,
                    0,
                    0,
                    0,
                    false};
         }
      return true;
   }

   bool grow_one(const Arrays &a, Int root, RankedTree &tree, Leaves &leaves, Source &to, std::uint64_t &onwards)
   {
      Int heap[2 << 6];
      bool is_block = false;
      grow_nodes(a, root, tree.depth, to.nodes.data() + tree.node, heap);
      const Size width = Size(1) << tree.depth;
      for (Size i = 0; i < width; ++i) {
         to.outlets.data()[tree.outlet + i] = way_out(a, heap[width - 1 + i], leaves, tree, to, is_block);
         onwards |= static_cast<std::uint64_t>(is_block) << i;
      }
      for (Size b = tree.block; b < to.blocks; ++b) {
         if (to.blocks > leaves.roots.size())
            return false;
         RankedBlock<Outlet<T>> &block = to.made.data()[b];
         grow_nodes(a, leaves.roots.data()[b], 3, to.nodes.data() + to.crown_nodes + b * block_nodes, heap);
         for (Size i = 0; i < block_outlets; ++i) {
            block.outlets[i] = way_out(a, heap[block_outlets - 1 + i], leaves, tree, to, is_block);
            block.onwards() = static_cast<std::uint8_t>(block.onwards() | (is_block ? 1 << i : 0));
         }
      }
      tree.blocks = to.blocks - tree.block;
      return true;
   }

   /// Trees in bytes, where that is better than as numbers.
   bool rank(const Arrays &a, const Buffer<Below> &below)
   {
      if (equalities || trees == 0)
         return false;
      Leaves leaves(a);
      Source source;
      if (!grow_ranked(a, below, leaves, source))
         return false;
      ranks_.build(source, sources_);
      if (ranks_.way == RankWay::None)
         return false;
      if (lists)
         keep_lists(a, leaves.node.data(), leaves.count);
      bool shallow = !lists;
      for (Size t = 0; t < trees; ++t)
         shallow = shallow && below.data()[a.roots[t]].levels <= shallow_levels<T>;
      if (shallow) {
         crowns_ = static_cast<Buffer<CrownNode<T>> &&>(source.nodes);
         outlets_ = static_cast<Buffer<Outlet<T>> &&>(source.outlets);
      }
      return true;
   }
#endif

   void build(const Arrays &a)
   {
      a.check();
      trees = a.trees;
      const Buffer<Below> below = examined(a);
      choose_columns(a);
      lists = How == Aggregate::Min || How == Aggregate::Max;
      for (Size t = 0; t < trees; ++t) {
         const Below &tree = below.data()[a.roots[t]];
         lists = lists || tree.target == -2;
         equalities = equalities || tree.equality;
      }
      base_ = Buffer<double>(a.outputs);
      for (Size i = 0; i < a.outputs; ++i)
         base_.data()[i] = static_cast<double>(a.base[i]);
#ifdef SOFIE_TREE_RANKS
      if (!rank(a, below))
#endif
         grow(a, below);
      numbers_ = Buffer<Int>(0);
   }

   void keep_walks(const Arrays &a, const Layout &layout)
   {
      const Size used = layout.used;
      walks_ = Buffer<WalkNode<T>>(used);
      __builtin_memcpy(static_cast<void *>(walks_.data()), layout.nodes.data(),
                       static_cast<std::size_t>(used) * sizeof(WalkNode<T>));
      if (lists)
         keep_lists(a, layout.node_at.data(), used);
   }

   /// What leaves say: number i is `nodes[i]` of the model.
   void keep_lists(const Arrays &a, const Int *nodes, Size count)
   {
      first_ = Buffer<Int>(count);
      last_ = Buffer<Int>(count);
      for (Size at = 0; at < count; ++at)
         if (const Int i = nodes[at]; i >= 0 && a.mode(i) == TreeLeaf) {
            first_.data()[at] = a.starts[i];
            last_.data()[at] = a.starts[i + 1];
         }
      entry_targets_ = Buffer<Int>(a.entries);
      entry_weights_ = Buffer<L>(a.entries);
      for (Size i = 0; i < a.entries; ++i) {
         entry_targets_.data()[i] = a.targets[i];
         entry_weights_.data()[i] = a.weights[i];
      }
   }

   Buffer<CrownNode<T>> crowns_;
   Buffer<Outlet<T>> outlets_;
   Buffer<WalkNode<T>> walks_;
   Buffer<Int> sources_, numbers_, targets_, first_, last_, entry_targets_;
   Buffer<L> entry_weights_;
   Buffer<double> base_;
   Int most_ = 0;
   bool ranked_ = false;
#ifdef SOFIE_TREE_RANKS
   RankedCrowns<T, Outlet<T>> ranks_;
#endif

public:
   /// Trees of one kind have crowns of one depth, and are walked on below them or not.
   static constexpr int kinds = 2 * (6 - least_levels + 1);
   static constexpr int depth_of(int kind) { return least_levels + kind / 2; }
   static constexpr bool walks(int kind) { return kind % 2 == 1; }

   Size counts[kinds] = {};
   Size trees = 0, columns = 0;
   Int features = 0;
   bool equalities = false;
   /// A leaf has a list of targets and weights, rather than one weight for the target of its tree.
   bool lists = false;

   template <Size Trees, Size Nodes, Size Starts, Size Entries, Size Outputs>
   Forest(View<const Int, Trees> roots, View<const Int, Nodes> feature, View<const T, Nodes> threshold,
          View<const std::uint8_t, Nodes> mode, View<const Int, Nodes, 2> children, View<const Int, Starts> starts,
          View<const Int, Entries> targets, View<const L, Entries> weights, View<const L, Outputs> base)
   {
      static_assert(Starts == Nodes + 1, "the weights of a node begin somewhere, and end");
      build({roots.data(), feature.data(), threshold.data(), mode.data(), children.data(), starts.data(),
             targets.data(), weights.data(), base.data(), Trees, Nodes, Entries, Outputs});
   }

   const CrownNode<T> *crowns() const { return crowns_.data(); }
   const Outlet<T> *outlets() const { return outlets_.data(); }
   /// Crowns for blocks of events: not always beside ranks.
   bool has_blocks() const { return crowns_.size() > 0; }
   const WalkNode<T> *walk_nodes() const { return walks_.data(); }
   const Int *sources() const { return sources_.data(); }
   const Int *targets() const { return targets_.data(); }
   const double *base() const { return base_.data(); }
#ifdef SOFIE_TREE_RANKS
   const RankedCrowns<T, Outlet<T>> &ranks() const { return ranks_; }
#endif

   /// total[target * stride] += what a leaf says.
   SOFIE_INLINE void add_list(Size leaf, double *total, Size stride) const
   {
      for (Size i = first_.data()[leaf]; i < last_.data()[leaf]; ++i) {
         double &sum = total[entry_targets_.data()[i] * stride];
         const double weight = static_cast<double>(entry_weights_.data()[i]);
         // NaN stands for a target of which no tree has said anything.
         if constexpr (How == Aggregate::Min)
            sum = sum <= weight ? sum : weight;
         else if constexpr (How == Aggregate::Max)
            sum = sum >= weight ? sum : weight;
         else
            sum += weight;
      }
   }
   /// What a sum is before the first tree.
   static constexpr double nothing()
   {
      return How == Aggregate::Min || How == Aggregate::Max ? __builtin_nan("") : 0.0;
   }
   /// The result of one event for one target.
   SOFIE_INLINE L finished(double total, Size target) const
   {
      if constexpr (How == Aggregate::Average)
         total = trees > 0 ? total / static_cast<double>(trees) : 0.0;
      if constexpr (How == Aggregate::Min || How == Aggregate::Max)
         total = total != total ? 0.0 : total;
      return static_cast<L>(total + base_.data()[target]);
   }
};

} // namespace sofie

SOFIE_END

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
