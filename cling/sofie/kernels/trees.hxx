/// \file
/// Ensembles of decision trees.
///
/// The first levels of a tree, its crown, are stored as a complete tree. With AVX2 and AVX-512 its
/// thresholds usually become ranks, see tree_ranks.hxx: that is how events are evaluated, each alone.
///
/// Else, and for many events where trees are shallow, node i has the children 2 i + 1 and 2 i + 2. For a
/// block of events all nodes of a crown are compared, one event in each lane of a pack, and the outcomes
/// select upwards from the leaves: no branch, no dependent load. Below its crown a tree is walked, several
/// events side by side; there a node knows the first of its two children, which are neighbours. Events that
/// are too few for a block are walked through the same crowns one by one.
///
/// In all ways the trees of an ensemble are added up in one order in double, so that an event has the same
/// bits alone and in a batch.
#ifndef SOFIE_KERNELS_TREES_HXX
#define SOFIE_KERNELS_TREES_HXX

#include "sofie/kernels/tree_forest.hxx"

// g++ warns that packs wider than its target's registers are passed in another way than with wider
// registers. Nothing here is passed: all functions are inlined.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

SOFIE_BEGIN

namespace sofie {

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

/// Crowns deeper than 4 levels: what their lower 4 levels give, and then upwards from there.
template <int Depth, class T>
SOFIE_INLINE void fall_far(const CrownNode<T> *nodes, const Outlet<T> *outlets, const T *block,
                           MaskOf<Pack<T>> (&to)[2])
{
   using I = MaskOf<Pack<T>>;
   constexpr Size width = Size(1) << (Depth - 4), first_outlet = (Size(1) << Depth) - 1;
   I level[width][2];
   for (Size i = 0; i < width; ++i)
      fall<4>(nodes, outlets, width - 1 + i, first_outlet, block, level[i]);
   for (Size count = width / 2; count > 0; count /= 2)
      for (Size i = 0; i < count; ++i) {
         I left[2];
         ask(nodes[count - 1 + i], block, left);
         level[i][0] = select<I>(left[0], level[2 * i][0], level[2 * i + 1][0]);
         level[i][1] = select<I>(left[1], level[2 * i][1], level[2 * i + 1][1]);
      }
   to[0] = level[0][0];
   to[1] = level[0][1];
}

/// Where the events of a block leave a crown.
template <int Depth, class T>
SOFIE_KERNEL void fall_crown(const CrownNode<T> *nodes, const Outlet<T> *outlets, const T *block, Outlet<T> *places)
{
   MaskOf<Pack<T>> to[2];
   if constexpr (Depth <= 4)
      fall<Depth>(nodes, outlets, 0, (Size(1) << Depth) - 1, block, to);
   else
      fall_far<Depth>(nodes, outlets, block, to);
   store(places, to[0]);
   store(places + lanes<T>, to[1]);
}

/// The same for a depth that is not known before; few of them are compiled.
template <int Depth = least_levels, class T>
SOFIE_INLINE void fall_crown_of(int depth, const CrownNode<T> *nodes, const Outlet<T> *outlets, const T *block,
                                Outlet<T> *places)
{
   if constexpr (Depth < crown_levels<T>)
      if (depth > Depth)
         return fall_crown_of<Depth + 1>(depth, nodes, outlets, block, places);
   fall_crown<Depth>(nodes, outlets, block, places);
}

/// One step of a walk.
template <bool Equalities, class T>
SOFIE_INLINE std::int32_t step(const WalkNode<T> &node, const T *x, Size stride)
{
   if constexpr (Equalities) {
      const std::int32_t sign = node.column >> 31;
      const T value = x[static_cast<Size>(node.column ^ sign) * stride];
      const bool first = sign ? value == node.threshold : value <= node.threshold;
      return node.next + (first ? 0 : 1);
   } else {
      return node.next + (x[static_cast<Size>(node.column) * stride] <= node.threshold ? 0 : 1);
   }
}

/// How many walks go on side by side, so that each hides the latency of the others.
inline constexpr int walkers = 8;

/// Walks of `Count` events from `at` to their leaves. Event j has x[column * stride + j * apart].
template <bool Equalities, class T, int Count>
SOFIE_INLINE void walk(const WalkNode<T> *nodes, const T *x, Size stride, Size apart, std::int32_t (&at)[Count])
{
   std::int32_t moved = 1;
   while (moved) {
      moved = 0;
   SOFIE_UNROLL_ALL
      for (int j = 0; j < Count; ++j) {
         const std::int32_t next = step<Equalities>(nodes[at[j]], x + j * apart, stride);
         moved |= next ^ at[j];
         at[j] = next;
      }
   }
}

/// The same for all events of a block.
template <bool Equalities, class T>
SOFIE_KERNEL void walk_block(const WalkNode<T> *nodes, const T *block, Size count, Outlet<T> *places)
{
   // A column has no more events than the block: behind them it is another column.
   constexpr int together = walkers < tree_block<T> ? walkers : tree_block<T>;
   for (Size e = 0; e < count; e += together) {
      std::int32_t at[together];
      SOFIE_UNROLL_ALL
      for (int j = 0; j < together; ++j)
         at[j] = static_cast<std::int32_t>(places[e + (e + j < count ? j : 0)]);
      walk<Equalities>(nodes, block + e, tree_block<T>, 1, at);
      SOFIE_UNROLL_ALL
      for (int j = 0; j < together; ++j)
         places[e + j] = at[j];
   }
}

/// total[i] += value[i] for the lanes of a block, in double.
template <class T>
SOFIE_INLINE void add_block(double *total, const Outlet<T> *values)
{
   constexpr int n = lanes<T>;
   for (int p = 0; p < 2 * n; p += n)
      store(total + p, load<n>(total + p) + convert<double>(bits<Pack<T>>(load<n>(values + p))));
}

/// All trees for a block of `count` events.
template <class T, class Forest>
SOFIE_KERNEL void add_trees(const Forest &forest, const T *block, double *totals, Size count)
{
   const CrownNode<T> *nodes = forest.crowns();
   const Outlet<T> *outlets = forest.outlets();
   const std::int32_t *targets = forest.targets();
   for (int kind = 0; kind < Forest::kinds; ++kind) {
      const int depth = Forest::depth_of(kind);
      const Size inner = (Size(1) << depth) - 1;
      for (Size t = 0; t < forest.counts[kind]; ++t) {
         alignas(64) Outlet<T> places[tree_block<T> + walkers];
         fall_crown_of(depth, nodes, outlets, block, places);
         double *const total = totals + static_cast<Size>(*targets) * tree_block<T>;
         nodes += inner;
         outlets += inner + 1;
         ++targets;
         if (Forest::walks(kind) && forest.equalities)
            walk_block<true>(forest.walk_nodes(), block, count, places);
         else if (Forest::walks(kind))
            walk_block<false>(forest.walk_nodes(), block, count, places);
         if (!Forest::walks(kind) && !forest.lists)
            add_block<T>(total, places);
         else
            for (Size e = 0; e < count; ++e)
               if (forest.lists)
                  forest.add_list(places[e], totals + e, tree_block<T>);
               else
                  total[e] += static_cast<double>(forest.walk_nodes()[places[e]].threshold);
      }
   }
}

/// The columns of `count` events: columns[c * stride + e].
template <class T, class Forest>
SOFIE_INLINE void gather_columns(const Forest &forest, const T *__restrict x, Size features, Size count, Size stride, T *__restrict columns)
{
   for (Size c = 0; c < forest.columns; ++c) {
      const std::int32_t source = forest.sources()[c];
      const T *const from = x + source / 2;
      T *const to = columns + c * stride;
      if (source % 2)
         for (Size e = 0; e < count; ++e)
            to[e] = -from[e * features];
      else
         for (Size e = 0; e < count; ++e)
            to[e] = from[e * features];
   }
   for (Size e = 0; e < stride; ++e)
      columns[forest.columns * stride + e] = static_cast<T>(__builtin_nan(""));
}

/// Where one event leaves `Count` crowns of the same depth.
template <int Count, class T>
SOFIE_INLINE void
fall_alone(const CrownNode<T> *nodes, const Outlet<T> *outlets, int depth, const T *row, Outlet<T> (&to)[walkers])
{
   const Size inner = (Size(1) << depth) - 1;
   Size at[Count] = {};
   for (int level = 0; level < depth; ++level) {
      const CrownNode<T> *tree = nodes;
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Count; ++j) {
         const CrownNode<T> &node = tree[at[j]];
         at[j] = 2 * at[j] + 2 - static_cast<Size>(row[node.column] <= node.threshold);
         tree += inner;
      }
   }
   SOFIE_UNROLL_ALL
   for (int j = 0; j < Count; ++j)
      to[j] = outlets[j * (inner + 1) + at[j] - inner];
}

/// On from where an event leaves `count` crowns to the leaves, where `to` then is.
template <class T, class Forest>
SOFIE_INLINE void walk_alone(const Forest &forest, const T *row, Size count, Outlet<T> *to)
{
   std::int32_t at[walkers];
   for (int j = 0; j < walkers; ++j)
      at[j] = static_cast<std::int32_t>(to[j < count ? j : 0]);
   if (forest.equalities)
      walk<true>(forest.walk_nodes(), row, 1, 0, at);
   else
      walk<false>(forest.walk_nodes(), row, 1, 0, at);
   for (int j = 0; j < walkers && j < count; ++j)
      to[j] = at[j];
}

/// All trees for one event, several trees side by side.
template <class T, class Forest>
SOFIE_KERNEL void add_alone(const Forest &forest, const T *row, double *totals)
{
   const CrownNode<T> *nodes = forest.crowns();
   const Outlet<T> *outlets = forest.outlets();
   const std::int32_t *targets = forest.targets();
   for (int kind = 0; kind < Forest::kinds; ++kind) {
      const int depth = Forest::depth_of(kind);
      const Size inner = (Size(1) << depth) - 1;
      for (Size left = forest.counts[kind]; left > 0;) {
         const Size count = left < walkers ? left : walkers;
         Outlet<T> to[walkers] = {};
         if (count == walkers)
            fall_alone<walkers>(nodes, outlets, depth, row, to);
         else
            for (Size j = 0; j < count; ++j) {
               Outlet<T> one[walkers];
               fall_alone<1>(nodes + j * inner, outlets + j * (inner + 1), depth, row, one);
               to[j] = one[0];
            }
         if (Forest::walks(kind))
            walk_alone(forest, row, count, to);
         for (Size j = 0; j < count; ++j) {
            if (forest.lists)
               forest.add_list(to[j], totals, 1);
            else
               totals[targets[j]] += static_cast<double>(Forest::walks(kind) ? forest.walk_nodes()[to[j]].threshold : bits<T>(to[j]));
         }
         nodes += count * inner;
         outlets += count * (inner + 1);
         targets += count;
         left -= count;
      }
   }
}

/// The sizes and the memory of one evaluation.
template <class T, class L>
struct TreeTask {
   L *y;
   const T *x;
   double *totals;
   T *columns;
   Size events, features, outputs;
};

#ifdef SOFIE_TREE_RANKS
/// The trees of a run for a block of events, added up in the order in which those of a single event are.
template <class T, class Forest>
SOFIE_KERNEL void add_run(const Forest &forest, const RankedRun &run, const T *block, double *totals)
{
   const Size inner = (Size(1) << run.depth) - 1;
   constexpr int wide = tree_block<T>;
   const CrownNode<T> *nodes = forest.crowns() + run.node;
   const Outlet<T> *outlets = forest.outlets() + run.node + run.tree;
   for (Size first = 0; first < run.trees; first += ranked_chunk) {
      alignas(64) double sums[ranked_together * wide] = {};
      for (Size t = first; t < run.trees && t < first + ranked_chunk; ++t) {
         alignas(64) Outlet<T> values[wide];
         fall_crown_of(run.depth, nodes, outlets, block, values);
         add_block<T>(sums + t % ranked_together * wide, values);
         nodes += inner;
         outlets += inner + 1;
      }
      for (int half = ranked_together / 2 * wide; half >= wide; half /= 2)
         for (int i = 0; i < half; i += lanes<double>)
            store(sums + i, load<lanes<double>>(sums + i) + load<lanes<double>>(sums + i + half));
      for (int i = 0; i < wide; ++i)
         totals[run.target * wide + i] += sums[i];
   }
}

/// All trees for a block of events; they are shallow.
template <class T, class Forest>
SOFIE_KERNEL void add_runs(const Forest &forest, const T *block, double *totals)
{
   const auto &ranks = forest.ranks();
   for (Size g = 0; g < ranks.groups(); ++g)
      for (Size r = ranks.group(g).run; r < ranks.group(g).run + ranks.group(g).runs; ++r)
         add_run(forest, ranks.run(r), block, totals);
}

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
         forest.add_list(to[j], totals, 1);
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
   const T *const x = task.x + first * task.features;
   for (Size i = 0; i < task.outputs * count; ++i)
      task.totals[i] = Forest::nothing();
   for (Size g = 0; g < crowns.groups(); ++g) {
      const RankedGroup &group = crowns.group(g);
      for (Size e = 0; e < count; ++e)
         rank_event(crowns.tables() + group.slot, crowns.columns() + group.slot, group.slots, x + e * task.features,
                    ranks[e]);
      for (Size r = group.run; r < group.run + group.runs; ++r) {
         const RankedRun &run = crowns.run(r);
         for (Size tree = 0; tree < run.trees; tree += ranked_chunk)
            for (Size e = 0; e < count; ++e)
               add_ranked<T>(forest, run, tree, ranks[e], task.totals + e * task.outputs);
      }
   }
   for (Size e = 0; e < count; ++e)
      for (Size k = 0; k < task.outputs; ++k)
         task.y[(first + e) * task.outputs + k] = forest.finished(task.totals[e * task.outputs + k], k);
}
#endif

/// `count` events from event `first` on, in a block or each alone.
template <class T, class L, class Forest>
SOFIE_KERNEL void evaluate_events(const Forest &forest, const TreeTask<T, L> &task, Size first, Size count, bool alone)
{
   const Size stride = alone ? 1 : tree_block<T>;
   const T *const x = task.x + first * task.features;
   for (Size i = 0; i < task.outputs * stride; ++i)
      task.totals[i] = Forest::nothing();
   gather_columns(forest, x, task.features, count, stride, task.columns);
   if (alone) {
      add_alone(forest, static_cast<const T *>(task.columns), task.totals);
#ifdef SOFIE_TREE_RANKS
   } else if (forest.ranks().way != RankWay::None) {
      add_runs(forest, static_cast<const T *>(task.columns), task.totals);
#endif
   } else {
      add_trees(forest, static_cast<const T *>(task.columns), task.totals, count);
   }
   for (Size e = 0; e < count; ++e)
      for (Size k = 0; k < task.outputs; ++k)
         task.y[(first + e) * task.outputs + k] = forest.finished(task.totals[k * stride + e], k);
}

/// y[n, k] = base[k] + the aggregate over all trees of what the leaf that x[n] falls to says of k.
/// `totals` and `columns` are memory for one block.
template <class T, class L, Aggregate How, class Y, class Totals, class Columns, class X>
SOFIE_INLINE void trees(Y y, Totals totals, Columns columns, X x, const Forest<T, L, How> &forest)
{
   const Size events = x.template extent<0>(), features = x.template extent<1>();
   if (forest.features > features)
      throw std::invalid_argument("trees: a node asks for a feature that the events do not have");
   const TreeTask<T, L> task{y.data(), x.data(), totals.data(), columns.data(), events, features, y.template extent<1>()};
   for (Size done = 0; done < events;) {
      const Size left = events - done;
      Size count = left < tree_block<T> ? left : tree_block<T>;
#ifdef SOFIE_TREE_RANKS
      if (forest.ranks().way != RankWay::None && (!forest.has_blocks() || left < fewest_in_ranked_block<T>)) {
         count = left < ranked_events ? left : ranked_events;
         evaluate_ranked(forest, task, done, count);
         done += count;
         continue;
      }
#endif
      const bool alone = left < fewest_in_block<T>;
      count = alone ? 1 : count;
      evaluate_events(forest, task, done, count, alone);
      done += count;
   }
}

} // namespace sofie

SOFIE_END

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
