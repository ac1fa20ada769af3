/// \file
/// Ensembles of decision trees.
///
/// With AVX2 and AVX-512 thresholds usually become ranks, see trees/ranks.hxx: that is how events are evaluated,
/// each alone. For many events and not too many trees of up to 8 levels there are complete trees of numbers beside
/// that, in which node i has the children 2 i + 1 and 2 i + 2: all nodes are compared, one event in each lane of a
/// pack, and the outcomes select upwards from the leaves, without a branch or a load that depends on another one. All
/// other ensembles are walked through, see trees/walks.hxx.
///
/// In each of these ways the trees of an ensemble are added up in one order in double, and so an event has the same
/// bits alone and in a batch.
#ifndef SOFIE_KERNELS_TREES_HXX
#define SOFIE_KERNELS_TREES_HXX

#include "sofie/kernels/trees/forest.hxx"

SOFIE_BEGIN

namespace sofie {

/// The sizes and the memory of one evaluation.
template <class T, class L>
struct TreeTask {
   L *y;
   const T *x;
   double *totals;
   T *columns;
   Size events, features, outputs, totals_size, columns_size;

   SOFIE_INLINE const T *event(Size i) const { return x + i * features; }
};

/// The results of `count` events from event `first` on. Their totals are [output * apart + event * next].
template <class T, class L, class Forest>
SOFIE_INLINE void finish_events(const Forest &forest, const TreeTask<T, L> &task, Size first, Size count, Size apart,
                                Size next)
{
   for (Size e = 0; e < count; ++e)
      for (Size k = 0; k < task.outputs; ++k)
         task.y[(first + e) * task.outputs + k] = forest.finished(task.totals[k * apart + e * next], k);
}

// Walks --------------------------------------------------------------------------------------------

/// The rows of some events as keys, behind that of column 0; where they are.
template <class T, class L, class Forest>
SOFIE_INLINE const KeyOf<T> *rows_of(const Forest &forest, const TreeTask<T, L> &task, Size first, Size count)
{
   const TreeColumn<T> *const columns = forest.columns().data();
   const Size width = forest.columns().count() + 1;
   auto *const rows = reinterpret_cast<KeyOf<T> *>(task.columns);
   for (Size e = 0; e < count; ++e) {
      KeyOf<T> *const row = rows + e * width;
      const T *const x = task.event(first + e);
      row[0] = ~KeyOf<T>(0);
   SOFIE_UNROLL(4)
      for (Size c = 1; c < width; ++c)
         row[c] = key_of(columns[c - 1].of(x));
   }
   return rows;
}

/// totals[event][output] += what the leaves `at` say that `events` events have reached in some trees, in their order.
template <class T, class Forest>
SOFIE_KERNEL void add_walks(const Forest &forest, const std::int32_t *at, Size tree, Size trees, Size events,
                            Size outputs, double *totals)
{
   const auto *const nodes = forest.walks().nodes();
   for (Size t = tree; t < tree + trees; ++t, at += events)
      if (forest.lists) {
         for (Size e = 0; e < events; ++e)
            forest.add_list(static_cast<Size>(nodes[at[e]].threshold), totals + e * outputs);
      } else {
         double *const total = totals + forest.targets()[t];
         SOFIE_UNROLL(4)
         for (Size e = 0; e < events; ++e)
            total[e * outputs] += static_cast<double>(bits<T>(nodes[at[e]].threshold));
      }
}

/// Some events: tree after tree, or several trees at once where events are few.
template <class T, class L, class Forest>
SOFIE_KERNEL void evaluate_walks(const Forest &forest, const TreeTask<T, L> &task, Size first, Size count)
{
   const auto &trees = forest.walks();
   const Size width = forest.columns().count() + 1, together = count < fewest_walks ? fewest_walks / count : 1;
   const KeyOf<T> *const rows = rows_of<T>(forest, task, first, count);
   for (Size i = 0; i < count * task.outputs; ++i)
      task.totals[i] = Forest::nothing();
   Walks<T> walks;
   for (Size tree = 0; tree < forest.trees; tree += together) {
      const Size some = forest.trees - tree < together ? forest.trees - tree : together;
      for (Size t = 0, i = 0; t < some; ++t)
         for (Size e = 0; e < count; ++e, ++i) {
            walks.at[i] = trees.root(tree + t);
            walks.row[i] = rows + e * width;
         }
      walk<T>(trees.nodes(), trees.column_bits(), trees.turns(), walks, some * count);
      add_walks<T>(forest, walks.ends, tree, some, count, task.outputs, task.totals);
   }
   finish_events(forest, task, first, count, 1, task.outputs);
}

/// How many events have space for their columns and totals; at least one.
template <class T, class L, class Forest>
SOFIE_INLINE Size walked_events(const Forest &forest, const TreeTask<T, L> &task)
{
   Size most = most_walks;
   const Size rows = task.columns_size / (forest.columns().count() + 1);
   most = rows < most ? rows : most;
   return task.outputs * most > task.totals_size ? task.totals_size / task.outputs : most;
}

#ifdef SOFIE_TREE_RANKS
// Blocks -------------------------------------------------------------------------------------------

/// Which of the lanes of a block go to the left at one node.
template <class T>
SOFIE_INLINE void ask(const CrownNode<T> &node, const T *block, MaskOf<Pack<T>> (&left)[2])
{
   const T *const x = block + static_cast<Size>(node.column) * tree_block<T>;
   const Pack<T> threshold = splat<Pack<T>>(node.threshold);
   left[0] = load<lanes<T>>(x) <= threshold;
   left[1] = load<lanes<T>>(x + lanes<T>) <= threshold;
}

/// Where the events of a block leave the `Levels` levels below node `at`. `outlets[2 i + 1]` and
/// `[2 i + 2]` belong to node i of the last level.
template <int Levels, class T>
SOFIE_INLINE void fall(const CrownNode<T> *nodes, const Outlet<T> *outlets, Size at, Size first_outlet, const T *block,
                       MaskOf<Pack<T>> (&to)[2])
{
   using I = MaskOf<Pack<T>>;
   I left[2];
   ask(nodes[at], block, left);
   if constexpr (Levels == 1) {
      const Outlet<T> *const pair = outlets + (2 * at + 1 - first_outlet);
      to[0] = select<I>(left[0], splat<I>(pair[0]), splat<I>(pair[1]));
      to[1] = select<I>(left[1], splat<I>(pair[0]), splat<I>(pair[1]));
   } else {
      I a[2], b[2];
      fall<Levels - 1>(nodes, outlets, 2 * at + 1, first_outlet, block, a);
      fall<Levels - 1>(nodes, outlets, 2 * at + 2, first_outlet, block, b);
      to[0] = select<I>(left[0], a[0], b[0]);
      to[1] = select<I>(left[1], a[1], b[1]);
   }
}

/// Where the events of a block leave a crown.
template <int Depth, class T>
SOFIE_KERNEL void fall_crown(const CrownNode<T> *nodes, const Outlet<T> *outlets, const T *block, Outlet<T> *places)
{
   MaskOf<Pack<T>> to[2];
   fall<Depth>(nodes, outlets, 0, (Size(1) << Depth) - 1, block, to);
   store(places, to[0]);
   store(places + lanes<T>, to[1]);
}

/// Where they leave one that is too deep for registers: all of its parts, of which the nodes above then choose.
template <class T>
SOFIE_KERNEL void fall_deep_crown(int depth, const CrownNode<T> *nodes, const Outlet<T> *outlets, const T *block,
                                  Outlet<T> *places)
{
   using I = MaskOf<Pack<T>>;
   constexpr int n = lanes<T>, wide = tree_block<T>, levels = shallow_levels<T>;
   alignas(64) Outlet<T> below[(1 << (most_block_levels - levels)) * wide];
   Size count = Size(1) << (depth - levels);
   const CrownNode<T> *part = nodes + count - 1;
   for (Size i = 0; i < count; ++i, part += (1 << levels) - 1)
      fall_crown<levels>(part, outlets + (i << levels), block, below + i * wide);
   while (count > 1) {
      count /= 2;
      for (Size i = 0; i < count; ++i) {
         I left[2];
         ask(nodes[count - 1 + i], block, left);
         const Outlet<T> *const pair = below + 2 * i * wide;
         Outlet<T> *const to = count > 1 ? below + i * wide : places;
         const I a = select<I>(left[0], load<n>(pair), load<n>(pair + wide));
         const I b = select<I>(left[1], load<n>(pair + n), load<n>(pair + wide + n));
         store(to, a);
         store(to + n, b);
      }
   }
}

/// The same for a depth that is not known before; few of them are compiled.
template <int Depth = least_levels, class T>
SOFIE_INLINE void fall_crown_of(int depth, const CrownNode<T> *nodes, const Outlet<T> *outlets, const T *block,
                                Outlet<T> *places)
{
   if constexpr (Depth < shallow_levels<T>)
      if (depth > Depth)
         return fall_crown_of<Depth + 1>(depth, nodes, outlets, block, places);
   if (depth > Depth)
      return fall_deep_crown(depth, nodes, outlets, block, places);
   fall_crown<Depth>(nodes, outlets, block, places);
}

/// total[i] += value[i] for the lanes of a block, in double.
template <class T>
SOFIE_INLINE void add_block(double *total, const Outlet<T> *values)
{
   constexpr int n = lanes<T>;
   for (int p = 0; p < 2 * n; p += n)
      store(total + p, load<n>(total + p) + convert<double>(bits<Pack<T>>(load<n>(values + p))));
}

/// The trees of a run for a block of events, added up in the order in which those of a single event are.
template <class T, class Forest>
SOFIE_KERNEL void add_run(const Forest &forest, Size number, const T *block, double *totals)
{
   const RankedRun &run = forest.ranks().run(number);
   const BlockRun &trees = forest.block_run(number);
   const Size inner = (Size(1) << trees.depth) - 1;
   constexpr int wide = tree_block<T>;
   const CrownNode<T> *nodes = forest.crowns() + trees.node;
   const Outlet<T> *outlets = forest.outlets() + trees.outlet;
   // Sums that no tree adds to are 0, which changes no other one.
   int apart = 1;
   while (apart < ranked_together && apart < run.trees)
      apart *= 2;
   alignas(64) double sums[ranked_together * wide];
   for (Size first = 0; first < run.trees; first += ranked_chunk) {
      for (int i = 0; i < apart * wide; i += lanes<double>)
         store(sums + i, PackN<double, lanes<double>>{});
      for (Size t = first; t < run.trees && t < first + ranked_chunk; ++t) {
         alignas(64) Outlet<T> values[wide];
         fall_crown_of(trees.depth, nodes, outlets, block, values);
         add_block<T>(sums + t % ranked_together * wide, values);
         nodes += inner;
         outlets += inner + 1;
      }
      for (int half = apart / 2 * wide; half >= wide; half /= 2)
         for (int i = 0; i < half; i += lanes<double>)
            store(sums + i, load<lanes<double>>(sums + i) + load<lanes<double>>(sums + i + half));
      for (int i = 0; i < wide; ++i)
         totals[run.target * wide + i] += sums[i];
   }
}

/// Up to as many events as a block has, for all trees.
template <class T, class L, class Forest>
SOFIE_KERNEL void evaluate_block(const Forest &forest, const TreeTask<T, L> &task, Size first, Size count)
{
   constexpr Size wide = tree_block<T>;
   const TreeColumns<T> &columns = forest.columns();
   for (Size c = 0; c < columns.count(); ++c) {
      const TreeColumn<T> column = columns.data()[c];
      const T *const x = task.event(first);
      T *const to = task.columns + c * wide;
      SOFIE_UNROLL(8)
      for (Size e = 0; e < count; ++e)
         to[e] = column.of(x + e * task.features);
   }
   for (Size i = 0; i < task.outputs * wide; ++i)
      task.totals[i] = Forest::nothing();
   const auto &ranks = forest.ranks();
   for (Size g = 0; g < ranks.groups(); ++g)
      for (Size r = ranks.group(g).run; r < ranks.group(g).run + ranks.group(g).runs; ++r)
         add_run(forest, r, static_cast<const T *>(task.columns), task.totals);
   finish_events(forest, task, first, count, wide, 1);
}

// Ranks --------------------------------------------------------------------------------------------

/// What up to 64 trees of a run say of one event.
template <class T, class Forest>
SOFIE_KERNEL void
add_ranked(const Forest &forest, const RankedRun &run, Size first, const std::uint8_t *ranks, double *totals)
{
   alignas(64) std::int32_t places[ranked_chunk];
   alignas(64) Outlet<T> to[ranked_chunk];
   const Size count = run.trees - first < ranked_chunk ? run.trees - first : ranked_chunk;
   const Size filled = (count + ranked_together - 1) / ranked_together * ranked_together;
   leave_crowns<T>(forest.ranks(), run, first, filled, ranks, places, to);
   if (run.walks)
      go_down<T>(forest.ranks(), run, first, count, ranks, places, to);
   if (forest.lists) {
      for (Size j = 0; j < count; ++j)
         forest.add_list(to[j], totals);
      return;
   }
   totals[run.target] += sum_of_numbers<T>(to, filled);
}

/// Events that are done together: each part of the trees is read from the first cache but once.
inline constexpr Size ranked_events = 16;

/// Up to 16 events.
template <class T, class L, class Forest>
SOFIE_KERNEL void evaluate_ranked(const Forest &forest, const TreeTask<T, L> &task, Size first, Size count)
{
   alignas(64) std::uint8_t ranks[ranked_events][256];
   const auto &crowns = forest.ranks();
   for (Size i = 0; i < task.outputs * count; ++i)
      task.totals[i] = Forest::nothing();
   for (Size g = 0; g < crowns.groups(); ++g) {
      const RankedGroup &group = crowns.group(g);
      for (Size e = 0; e < count; ++e)
         rank_event(crowns.tables() + group.slot, crowns.columns() + group.slot, group.slots,
                    task.event(first + e), ranks[e]);
      for (Size r = group.run; r < group.run + group.runs; ++r) {
         const RankedRun &run = crowns.run(r);
         for (Size tree = 0; tree < run.trees; tree += ranked_chunk)
            for (Size e = 0; e < count; ++e)
               add_ranked<T>(forest, run, tree, ranks[e], task.totals + e * task.outputs);
      }
   }
   finish_events(forest, task, first, count, 1, task.outputs);
}
#endif

/// Some of `left` events from event `first` on; how many.
template <class T, class L, class Forest>
SOFIE_INLINE Size evaluate_some(const Forest &forest, const TreeTask<T, L> &task, Size first, Size left)
{
#ifdef SOFIE_TREE_RANKS
   if (forest.is_ranked()) {
      const bool block = left >= forest.fewest_in_block();
      const Size most = block ? tree_block<T> : ranked_events;
      const Size count = left < most ? left : most;
      block ? evaluate_block(forest, task, first, count) : evaluate_ranked(forest, task, first, count);
      return count;
   }
#endif
   const Size most = walked_events(forest, task);
   const Size count = left < most ? left : most;
   evaluate_walks(forest, task, first, count);
   return count;
}

/// y[n, k] = base[k] + the aggregate over all trees of what the leaf that x[n] falls to says of k.
/// `totals` and `columns` are memory for as many events as are done at once.
template <class T, class L, class Way, Aggregate How, class Y, class Totals, class Columns, class X>
SOFIE_INLINE void trees(Y y, Totals totals, Columns columns, X x, const Forest<T, L, Way, How> &forest)
{
   const Size events = x.template extent<0>(), features = x.template extent<1>();
   if (forest.columns().features > features)
      throw std::invalid_argument("trees: a node asks for a feature that the events do not have");
   const TreeTask<T, L> task{y.data(), x.data(), totals.data(),           columns.data(), events,
                             features, y.template extent<1>(), totals.size(), columns.size()};
   for (Size done = 0; done < events;)
      done += evaluate_some(forest, task, done, events - done);
}

} // namespace sofie

SOFIE_END

#endif
