/// \file
/// Ensembles of decision trees, as they are packed for evaluation: ranked (trees/ranks.hxx), where that pays, with
/// complete trees of numbers for blocks of events where no tree is deep; else to be walked on (trees/walks.hxx).
#ifndef SOFIE_KERNELS_TREES_FOREST_HXX
#define SOFIE_KERNELS_TREES_FOREST_HXX

#include "sofie/kernels/trees/ranks.hxx"
#include "sofie/kernels/trees/walks.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TREE_RANKS
/// How many events a block has: two packs, so that one hides the latency of the other.
template <class T>
inline constexpr int tree_block = 2 * lanes<T>;

/// Flatter crowns get as many levels: fewer kinds.
inline constexpr int least_levels = 3;

/// So many levels of a tree are done at once for a block of events, which registers have space for; and so many at all.
template <class T>
inline constexpr int shallow_levels = lanes<T> >= 16 ? 4 : 3;
inline constexpr int most_block_levels = 8;

/// The nodes of a complete tree below `root`; the last `1 << depth` of `heap` are where they lead to.
template <class T, class L>
SOFIE_KERNEL void grow_crown(const TreeArrays<T, L> &a, const TreeColumns<T> &columns, std::int32_t root, int depth,
                             CrownNode<T> *nodes, std::int32_t *heap)
{
   const int inner = (1 << depth) - 1;
   heap[0] = root;
   for (int i = 0; i < inner; ++i) {
      const std::int32_t own = heap[i];
      const bool leaf = a.is_leaf(own);
      nodes[i] = {leaf ? static_cast<T>(__builtin_nan("")) : columns.threshold(a, own),
                  leaf ? 0 : columns.column(a, own)};
      heap[2 * i + 1] = leaf ? own : columns.child(a, own, true);
      heap[2 * i + 2] = leaf ? own : columns.child(a, own, false);
   }
}

/// The trees of a run as complete ones for blocks of events: where their nodes and outlets begin, and their levels.
struct BlockRun {
   Size node, outlet;
   std::int32_t depth;
};

/// Trees on their way into ranks: a crown, a complete tree, is stored as such; what is below it as blocks.
template <class T, class L>
class RankedGrowth {
   using Arrays = TreeArrays<T, L>;
   using Int = std::int32_t;
   using Source = RankedSource<T, Outlet<T>>;

   /// Trees of one kind have crowns of one depth, and blocks below them or not.
   static constexpr int kinds = 2 * (most_ranked_depth - least_levels + 1);
   static constexpr int depth_of(int kind) { return least_levels + kind / 2; }
   static constexpr bool has_blocks(int kind) { return kind % 2 == 1; }

   const Arrays &a;
   const TreeColumns<T> &columns;
   LeafLists<L> *const lists;
   Source &to;
   Buffer<Int> block, roots; ///< the block that begins at a node, or -1, and where a block begins

   /// What a way out of a crown or block leads to: a leaf, or a block of this tree, which may be new.
   Outlet<T> way_out(Int node, const RankedTree &tree, bool &onwards)
   {
      onwards = !a.is_leaf(node);
      if (!onwards)
         return lists ? static_cast<Outlet<T>>(lists->number_of(a, node)) : bits<Outlet<T>>(a.value(node));
      Int &known = block.data()[node];
      if (known < tree.block) {
         known = static_cast<Int>(to.blocks);
         if (to.blocks < roots.size())
            roots.data()[to.blocks] = node;
         ++to.blocks;
      }
      return known;
   }

   /// A tree; false if there are too many blocks.
   bool grow_tree(Int root, RankedTree &tree, std::uint64_t &onwards)
   {
      Int heap[2 << most_ranked_depth];
      bool is_block = false;
      grow_crown(a, columns, root, tree.depth, to.nodes.data() + tree.node, heap);
      const Size width = Size(1) << tree.depth;
      for (Size i = 0; i < width; ++i) {
         to.outlets.data()[tree.outlet + i] = way_out(heap[width - 1 + i], tree, is_block);
         onwards |= static_cast<std::uint64_t>(is_block) << i;
      }
      for (Size b = tree.block; b < to.blocks; ++b) {
         if (to.blocks > roots.size())
            return false;
         RankedBlock<Outlet<T>> &made = to.made.data()[b];
         grow_crown(a, columns, roots.data()[b], 3, to.nodes.data() + to.crown_nodes + b * block_nodes, heap);
         for (Size i = 0; i < block_outlets; ++i) {
            made.outlets[i] = way_out(heap[block_outlets - 1 + i], tree, is_block);
            made.onwards() = static_cast<std::uint8_t>(made.onwards() | (is_block ? 1 << i : 0));
         }
      }
      tree.blocks = to.blocks - tree.block;
      return true;
   }

   static bool is_walked(const TreeShape &tree) { return tree.levels > most_ranked_depth; }
   static int crown_depth(const TreeShape &tree)
   {
      // A full tree of 7 or 8 levels fits into a smaller crown and one block below each of its outlets.
      if (is_walked(tree) && tree.levels <= most_ranked_depth + 3 && tree.leaves > 1 << (tree.levels - 2))
         return tree.levels - 3;
      return tree.levels > most_ranked_depth ? most_ranked_depth
             : tree.levels < least_levels    ? least_levels
                                             : tree.levels;
   }

   /// Trees in the order of their targets.
   Buffer<Int> by_target(const TreeShape *shapes) const
   {
      Buffer<Int> starts(a.outputs + 1), order(a.trees);
      for (Size t = 0; t < a.trees; ++t)
         ++starts.data()[shapes[a.roots[t]].target_or_first() + 1];
      for (Size k = 0; k < a.outputs; ++k)
         starts.data()[k + 1] += starts.data()[k];
      for (Size t = 0; t < a.trees; ++t)
         order.data()[starts.data()[shapes[a.roots[t]].target_or_first()]++] = static_cast<Int>(t);
      return order;
   }

   void make_space(const TreeShape *shapes)
   {
      Size outlets = 0, inner = 0;
      bool any_walked = false;
      for (Size t = 0; t < a.trees; ++t) {
         const TreeShape &tree = shapes[a.roots[t]];
         outlets += Size(1) << crown_depth(tree);
         any_walked = any_walked || is_walked(tree);
      }
      for (Size i = 0; any_walked && i < a.nodes; ++i)
         inner += !a.is_leaf(i);
      to.trees = Buffer<RankedTree>(a.trees);
      to.crown_nodes = outlets - a.trees;
      to.nodes = Buffer<CrownNode<T>>(to.crown_nodes + inner * block_nodes);
      to.outlets = Buffer<Outlet<T>>(outlets);
      to.onwards = Buffer<std::uint64_t>(a.trees);
      to.made = Buffer<RankedBlock<Outlet<T>>>(inner);
      roots = Buffer<Int>(inner);
   }

public:
   RankedGrowth(const Arrays &arrays, const TreeColumns<T> &of, LeafLists<L> *leaves, Source &source)
      : a(arrays), columns(of), lists(leaves), to(source), block(arrays.nodes)
   {
      for (Size i = 0; i < a.nodes; ++i)
         block.data()[i] = -1;
   }

   /// All trees; false if nodes that several ways lead to would make it too many blocks.
   bool grow(const TreeShape *shapes)
   {
      make_space(shapes);
      const Buffer<Int> order = by_target(shapes);
      RankedTree tree{};
      Size number = 0;
      for (int kind = 0; kind < kinds; ++kind)
         for (Size i = 0; i < a.trees; ++i) {
            const Int root = a.roots[order.data()[i]];
            const TreeShape &shape = shapes[root];
            if (crown_depth(shape) != depth_of(kind) || is_walked(shape) != has_blocks(kind))
               continue;
            tree.root = root;
            tree.depth = depth_of(kind);
            tree.walks = has_blocks(kind);
            tree.target = shape.target_or_first();
            if (!grow_tree(root, tree, to.onwards.data()[number]))
               return false;
            to.trees.data()[number++] = tree;
            const Size outlets = Size(1) << tree.depth;
            tree = {tree.node + outlets - 1, tree.outlet + outlets, to.blocks, 0, 0, 0, 0, 0, false};
         }
      return true;
   }
};
#endif

/// All trees of an ensemble in the form in which they are evaluated. `Way` has bits for all columns and nodes.
template <class T, class L, class Way, Aggregate How>
class Forest {
   using Arrays = TreeArrays<T, L>;
   using Int = std::int32_t;

   TreeColumns<T> columns_;
   LeafLists<L> lists_;
   Buffer<Int> targets_;
   Buffer<double> base_;
   WalkedTrees<T, Way> walks_;
#ifdef SOFIE_TREE_RANKS
   RankedCrowns<T, Outlet<T>> ranks_;
   Buffer<CrownNode<T>> crowns_;
   Buffer<Outlet<T>> outlets_;
   Buffer<BlockRun> blocks_;
   Size fewest_ = never;
   static constexpr Size never = Size(1) << 40;

   /// From how many events on a block of them is done faster than each by its ranks: a block takes as long for one,
   /// and asks all nodes. Both in cycles. Trees have up to `deepest` levels.
   Size fewest_for(const Arrays &a, const TreeShape *shapes, int deepest) const
   {
      const double chunks = static_cast<double>((trees + ranked_chunk - 1) / ranked_chunk);
      double event = 40 + 150 * chunks, block = 500 + 10 * static_cast<double>(columns_.count());
      for (Size g = 0; g < ranks_.groups(); ++g)
         event += 5.0 * static_cast<double>(ranks_.group(g).slots);
      for (Size t = 0; t < trees; ++t) {
         int levels = shapes[a.roots[t]].levels;
         const bool walks = levels > most_ranked_depth;
         levels = levels < least_levels ? least_levels : walks ? deepest : levels;
         const double nodes = 1 << levels;
         event += walks ? 24 : 0.6 + nodes / 32;
         block += 26 + (levels > shallow_levels<T> ? 3.5 : 2.5) * nodes;
      }
      const auto fewest = static_cast<Size>(block / event) + 1;
      return fewest <= tree_block<T> ? fewest : never;
   }

   /// A complete tree. One that is too deep to be done at once in parts: first the nodes above these.
   void put_crown(const Arrays &a, Int root, int depth, CrownNode<T> *nodes, Outlet<T> *outlets) const
   {
      constexpr int most = shallow_levels<T>;
      CrownNode<T> heap[1 << most_block_levels];
      Int ends[2 << most_block_levels];
      grow_crown(a, columns_, root, depth, heap, ends);
      const int levels = depth > most ? most : depth;
      const Size parts = Size(1) << (depth - levels), width = Size(1) << depth;
      for (Size i = 0; i < parts - 1; ++i)
         *nodes++ = heap[i];
      for (Size i = 0; i < parts; ++i)
         for (int level = 0; level < levels; ++level)
            for (Size j = 0; j < Size(1) << level; ++j)
               *nodes++ = heap[((parts + i) << level) - 1 + j];
      for (Size i = 0; i < width; ++i)
         outlets[i] = bits<Outlet<T>>(a.value(ends[width - 1 + i]));
   }

   /// All trees for blocks of events, in the order in which their ranks are.
   void make_blocks(const Arrays &a, const RankedTree *ranked, const TreeShape *shapes)
   {
      const RankedGroup &last = ranks_.group(ranks_.groups() - 1);
      blocks_ = Buffer<BlockRun>(last.run + last.runs);
      BlockRun next{0, 0, 0};
      for (Size r = 0; r < blocks_.size(); ++r) {
         const RankedRun &run = ranks_.run(r);
         next.depth = least_levels;
         for (Size t = run.tree; t < run.tree + run.trees; ++t)
            if (const int levels = shapes[ranked[t].root].levels; levels > next.depth)
               next.depth = levels;
         blocks_.data()[r] = next;
         next.outlet += run.trees << next.depth;
         next.node += (run.trees << next.depth) - run.trees;
      }
      crowns_ = Buffer<CrownNode<T>>(next.node);
      outlets_ = Buffer<Outlet<T>>(next.outlet);
      for (Size r = 0; r < blocks_.size(); ++r) {
         const RankedRun &run = ranks_.run(r);
         const BlockRun &to = blocks_.data()[r];
         for (Size t = 0; t < run.trees; ++t)
            put_crown(a, ranked[run.tree + t].root, to.depth, crowns_.data() + to.node + (t << to.depth) - t,
                      outlets_.data() + to.outlet + (t << to.depth));
      }
   }

   /// Trees in bytes, where that is better than as numbers.
   bool rank(const Arrays &a, const TreeShape *shapes)
   {
      RankedSource<T, Outlet<T>> source;
      RankedGrowth<T, L> growth(a, columns_, lists ? &lists_ : nullptr, source);
      if (trees == 0 || !growth.grow(shapes))
         return false;
      int deepest = 0;
      for (Size t = 0; t < trees; ++t)
         if (const int levels = shapes[a.roots[t]].levels; levels > deepest)
            deepest = levels;
      // Only beside ranks there are blocks. Of a few walks each waits for itself, too.
      const bool shallow = !lists && deepest <= most_block_levels;
      ranks_.build(source, columns_, shallow ? 100 : 0);
      if (ranks_.way == RankWay::None)
         return false;
      fewest_ = shallow ? fewest_for(a, shapes, deepest) : never;
      if (fewest_ != never)
         make_blocks(a, source.trees.data(), shapes);
      return true;
   }
#endif

   void build(const Arrays &given)
   {
      given.check();
      const OrderedTrees<T, L> ordered(given);
      const Arrays &a = ordered.arrays;
      trees = a.trees;
      columns_ = TreeColumns<T>(a);
      const Buffer<TreeShape> shapes = shapes_of(a);
      targets_ = Buffer<Int>(trees);
      lists = How == Aggregate::Min || How == Aggregate::Max;
      for (Size t = 0; t < trees; ++t) {
         const TreeShape &tree = shapes.data()[a.roots[t]];
         targets_.data()[t] = tree.target_or_first();
         lists = lists || tree.target == TreeShape::several;
      }
      if (lists)
         lists_ = LeafLists<L>(a);
      base_ = Buffer<double>(a.outputs);
      for (Size i = 0; i < a.outputs; ++i)
         base_.data()[i] = static_cast<double>(a.base[i]);
#ifdef SOFIE_TREE_RANKS
      if (!rank(a, shapes.data()))
#endif
         walks_ = WalkedTrees<T, Way>(a, columns_, lists ? &lists_ : nullptr);
      if (lists)
         lists_.finish();
   }

public:
   Size trees = 0;
   /// A leaf has a list of targets and weights, rather than one weight for the target of its tree.
   bool lists = false;

   /// The arrays of `TreeArrays`, in its order.
   template <class Roots, class Features, class... Views>
   Forest(const Roots &roots, const Features &features, const Views &...views)
   {
      const Size sizes[] = {views.size()...};
      TreeArrays<T, L>::require(sizes[3] == features.size() + 1, "the weights of a node begin somewhere, and end");
      build({roots.data(), features.data(), views.data()..., roots.size(), features.size(), sizes[4], sizes[6]});
   }

   SOFIE_INLINE const TreeColumns<T> &columns() const { return columns_; }
   SOFIE_INLINE const WalkedTrees<T, Way> &walks() const { return walks_; }
   SOFIE_INLINE const Int *targets() const { return targets_.data(); }
#ifdef SOFIE_TREE_RANKS
   SOFIE_INLINE const RankedCrowns<T, Outlet<T>> &ranks() const { return ranks_; }
   SOFIE_INLINE bool is_ranked() const { return ranks_.way != RankWay::None; }
   /// From how many events on complete trees of numbers are faster than ranks.
   SOFIE_INLINE Size fewest_in_block() const { return fewest_; }
   SOFIE_INLINE const BlockRun &block_run(Size i) const { return blocks_.data()[i]; }
   SOFIE_INLINE const CrownNode<T> *crowns() const { return crowns_.data(); }
   SOFIE_INLINE const Outlet<T> *outlets() const { return outlets_.data(); }
#endif

   /// The totals take in what leaf number `leaf` says.
   SOFIE_INLINE void add_list(Size leaf, double *totals) const { lists_.template add<How>(leaf, totals); }
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

#endif
