/// \file
/// The crowns of many decision trees in bytes: what a node asks is which rank a number has.
///
/// A column of the events is compared with few different thresholds. So each event's numbers are
/// ranked once, x <= threshold becomes a comparison of two bytes, and one instruction does 64 nodes:
/// a whole tree of 6 levels, or 8 trees of 3. Which leaf they lead to follows from the outcomes, a
/// bit for each node, without another look at the nodes: nothing waits for memory.
///
/// A table of up to 254 thresholds is a slot; a column with more of them has several. Trees that
/// can do with as many slots as a register can select from are a group.
#ifndef SOFIE_KERNELS_TREES_RANKS_HXX
#define SOFIE_KERNELS_TREES_RANKS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/trees/arrays.hxx"

// Those who say SOFIE_TARGET mean AVX2 or more by packs of 32 bytes.
#if defined(SOFIE_X86) && SOFIE_SIMD_BYTES >= 32 && (defined(SOFIE_TARGET) || defined(__AVX2__))
#define SOFIE_TREE_RANKS

SOFIE_BEGIN

namespace sofie {

/// A node of a complete tree: to the left if x[column] <= threshold.
template <class T>
struct CrownNode {
   T threshold;
   std::int32_t column;
};

/// The thresholds of a slot, in ascending order, infinite behind the last one. `pivots` are every 16th.
template <class T>
struct RankTable {
   T pivots[16];
   T thresholds[256];
};

/// The column of a slot: a feature, the bits by which its numbers differ in it, and the rank of NaN.
template <class Outlet>
struct RankColumn {
   Outlet sign;
   std::int32_t feature, nan;
};

/// How many thresholds a slot has at most. Ranks begin at 1, so that a threshold 0 is above none;
/// NaN has the largest one where it is no number.
inline constexpr int most_ranks = 254, nan_rank = 255;

/// A row has a byte for each of 64 nodes that says the slot, then one for each threshold, as a signed number.
inline constexpr int row_nodes = 64, row_bytes = 128;

/// Trees of such a depth are done side by side; as many is how many places they have.
inline constexpr int ranked_together = 16, ranked_chunk = 64, most_ranked_depth = 6;

/// Whether the CPU selects bytes from all of a register (AVX-512 VBMI).
inline bool selects_bytes()
{
#if SOFIE_SIMD_BYTES == 64
   unsigned a = 7, b = 0, c = 0, d = 0;
   asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
   return (c & 2U) != 0;
#else
   return false;
#endif
}

/// How bytes are selected, from how many slots.
enum class RankWay { None, Banks32, Banks64, Bytes64, Bytes256 };

/// Trees of one kind for one target, in one group. `place` counts the dead trees, too.
struct RankedRun {
   Size row, outlet, place, tree, trees;
   std::int32_t depth, target;
   bool walks;
};

/// The trees whose thresholds are in the same slots.
struct RankedGroup {
   Size slot, slots, run, runs;
};

/// A tree on its way into runs: its crown, and the blocks below it.
struct RankedTree {
   Size node, outlet, block, blocks;
   std::int32_t depth, target, group, root;
   bool walks;
};

/// Three levels below a crown: node i, from 1 on, is above the nodes 2 i and 2 i + 1. Where bit i of `onwards` is
/// set, outlet i is the number of a block, else what a leaf gives.
template <class Outlet>
struct RankedBlock {
   std::uint8_t slots[8];
   std::int8_t thresholds[8];
   Outlet outlets[8];

   SOFIE_INLINE std::uint8_t &onwards() { return slots[0]; }
   SOFIE_INLINE std::uint8_t onwards() const { return slots[0]; }
};
inline constexpr Size block_nodes = 7, block_outlets = 8;

/// All crowns and blocks of an ensemble with their questions, before they are ranked.
template <class T, class Outlet>
struct RankedSource {
   Buffer<RankedTree> trees;
   Buffer<CrownNode<T>> nodes;
   Buffer<Outlet> outlets;
   Buffer<std::uint64_t> onwards; ///< which outlets of a crown are blocks
   Buffer<RankedBlock<Outlet>> made;
   Size crown_nodes = 0, blocks = 0;

   Size count(const RankedTree &tree) const { return (Size(1) << tree.depth) - 1 + tree.blocks * block_nodes; }
   /// Where question i of a tree is among all: those of its crown come first.
   Size place(const RankedTree &tree, Size i) const
   {
      const Size inner = (Size(1) << tree.depth) - 1;
      return i < inner ? tree.node + i : crown_nodes + tree.block * block_nodes + i - inner;
   }
   Size all() const { return crown_nodes + blocks * block_nodes; }
};

template <class T, class Outlet>
class RankedCrowns {
   using Int = std::int32_t;
   using Node = CrownNode<T>;
   using Source = RankedSource<T, Outlet>;

   Buffer<RankTable<T>> tables_;
   Buffer<RankColumn<Outlet>> columns_;
   Buffer<std::uint8_t> rows_;
   Buffer<Outlet> outlets_;
   Buffer<RankedBlock<Outlet>> blocks_;
   Buffer<std::uint64_t> onwards_;
   Buffer<RankedGroup> groups_;
   Buffer<RankedRun> runs_;

   /// The nodes that ask for a number, in the order of their columns and thresholds; which different
   /// question each node has, or -1.
   struct Questions {
      Buffer<Int> order, number;
      Size count = 0, different = 0;

      static bool before(const Node &a, const Node &b)
      {
         return a.column < b.column || (a.column == b.column && a.threshold < b.threshold);
      }
      void sort(const Node *nodes)
      {
         Buffer<Int> other(count);
         Int *from = order.data(), *to = other.data();
         for (Size width = 1; width < count; width *= 2) {
            for (Size start = 0; start < count; start += 2 * width) {
               const Size middle = start + width < count ? start + width : count;
               const Size end = middle + width < count ? middle + width : count;
               Size a = start, b = middle;
               for (Size i = start; i < end; ++i)
                  to[i] = b < end && (a == middle || before(nodes[from[b]], nodes[from[a]])) ? from[b++] : from[a++];
            }
            Int *const done = to;
            to = from;
            from = done;
         }
         if (from != order.data())
            order = static_cast<Buffer<Int> &&>(other);
      }
      Questions(const Node *nodes, Size all) : order(all), number(all)
      {
         for (Size i = 0; i < all; ++i)
            if (nodes[i].threshold == nodes[i].threshold)
               order.data()[count++] = static_cast<Int>(i);
         sort(nodes);
         for (Size i = 0; i < all; ++i)
            number.data()[i] = -1;
         for (Size i = 0; i < count; ++i) {
            const Int own = order.data()[i];
            if (i == 0 || before(nodes[order.data()[i - 1]], nodes[own]))
               ++different;
            number.data()[own] = static_cast<Int>(different - 1);
         }
      }
   };

   /// Which group each tree belongs to, and how many slots all have; -1 if a tree has too many.
   static Size grouped(Source &from, const Questions &asked, Size columns, Size capacity)
   {
      Buffer<Int> seen(asked.different), in_column(columns), column_seen(columns);
      Int group = 1;
      Size slots = 0, all = 0;
      for (Size t = 0; t < from.trees.size(); ++t) {
         RankedTree &tree = from.trees.data()[t];
         const Size before = slots;
         for (Size i = 0; i < from.count(tree); ++i) {
            const Size own = from.place(tree, i);
            const Int number = asked.number.data()[own];
            if (number < 0 || seen.data()[number] == group)
               continue;
            seen.data()[number] = group;
            const Int column = from.nodes.data()[own].column;
            if (column_seen.data()[column] != group)
               in_column.data()[column] = 0;
            column_seen.data()[column] = group;
            slots += in_column.data()[column]++ % most_ranks == 0;
         }
         if (slots > capacity) {
            if (before == 0)
               return -1;
            all += before;
            slots = 0;
            ++group;
            --t; // Once more, into a group of its own.
            continue;
         }
         tree.group = group - 1;
      }
      return all + slots;
   }

   /// The slots of a group: `slot` and `rank` of each question in it.
   struct Ranks {
      Buffer<Int> slot, rank;
      Buffer<char> asked;
   };

   /// The rank of NaN in a table.
   static Int rank_of_nan(const RankTable<T> &table, const TreeColumn<T> &column)
   {
      if (column.instead != column.instead)
         return nan_rank;
      Int rank = 1;
      for (const T threshold : table.thresholds)
         rank += threshold < column.instead;
      return rank;
   }

   void make_slots(RankedGroup &group, const Node *nodes, const Questions &asked, const TreeColumn<T> *columns,
                   Ranks &ranks)
   {
      Int column = -1, rank = 0;
      Size slot = group.slot;
      RankTable<T> *table = nullptr;
      Int last = -1;
      for (Size i = 0; i < asked.count; ++i) {
         const Int own = asked.order.data()[i], number = asked.number.data()[own];
         if (!ranks.asked.data()[number] || number == last)
            continue;
         last = number;
         if (nodes[own].column != column || rank == most_ranks) {
            column = nodes[own].column;
            rank = 0;
            table = tables_.data() + slot;
            for (T &t : table->thresholds)
               t = static_cast<T>(__builtin_inf());
            columns_.data()[slot++] = {bits<Outlet>(columns[column].factor < 0 ? -T(0) : T(0)), columns[column].feature,
                                       column};
         }
         table->thresholds[rank] = nodes[own].threshold;
         ranks.slot.data()[number] = static_cast<Int>(slot - 1 - group.slot);
         ranks.rank.data()[number] = ++rank;
      }
      group.slots = slot - group.slot;
      for (Size s = group.slot; s < slot; ++s) {
         RankTable<T> &own = tables_.data()[s];
         for (int i = 0; i < 16; ++i)
            own.pivots[i] = own.thresholds[16 * i + 15];
         // Up to now that was the column's number.
         Int &nan = columns_.data()[s].nan;
         nan = rank_of_nan(own, columns[nan]);
      }
   }

   void put_tree(const Source &from, Size number_of_tree, Size place, const RankedRun &run, const Questions &asked,
                 const Ranks &ranks)
   {
      const RankedTree &tree = from.trees.data()[number_of_tree];
      const Size width = Size(1) << tree.depth;
      for (Size i = 0; i < from.count(tree); ++i) {
         const Int number = asked.number.data()[from.place(tree, i)];
         if (number < 0)
            continue; // To the right, as everything is at first.
         const auto slot = static_cast<std::uint8_t>(ranks.slot.data()[number]);
         const auto rank = static_cast<std::uint8_t>(ranks.rank.data()[number] ^ 0x80);
         if (i < width - 1) {
            const Size at = place * width + i + 1;
            std::uint8_t *const row = rows_.data() + (run.row + at / row_nodes) * row_bytes + at % row_nodes;
            row[0] = slot;
            row[row_nodes] = rank;
         } else {
            const Size at = i - (width - 1);
            RankedBlock<Outlet> &block = blocks_.data()[tree.block + at / block_nodes];
            block.slots[at % block_nodes + 1] = slot;
            block.thresholds[at % block_nodes + 1] = static_cast<std::int8_t>(rank);
         }
      }
      for (Size i = 0; i < width; ++i)
         outlets_.data()[run.outlet + place * width + i] = from.outlets.data()[tree.outlet + i];
      onwards_.data()[run.place + place] = from.onwards.data()[number_of_tree];
   }

   void make_blocks(const Source &from)
   {
      blocks_ = Buffer<RankedBlock<Outlet>>(from.blocks);
      for (Size b = 0; b < from.blocks; ++b) {
         blocks_.data()[b] = from.made.data()[b];
         for (std::int8_t &threshold : blocks_.data()[b].thresholds)
            threshold = -0x80;
      }
   }

   /// How many cycles more it takes to walk, but for the looks at tables: 4 for each column, and for each tree 6 for
   /// each level of its crown, if that is all of it; less if blocks are below that, most of all if they are many.
   static Size otherwise(const Source &from, Size columns)
   {
      Size cycles = 4 * columns;
      for (Size t = 0; t < from.trees.size(); ++t) {
         const RankedTree &tree = from.trees.data()[t];
         cycles += !tree.walks ? 6 * tree.depth : tree.blocks > 64 ? 10 : 25;
      }
      return cycles;
   }

   static bool together(const RankedTree &a, const RankedTree &b)
   {
      return a.depth == b.depth && a.target == b.target && a.group == b.group && a.walks == b.walks;
   }

   /// Trees that belong together are runs, with dead ones up to a multiple of those that are done side by side.
   void make_runs(const Buffer<RankedTree> &trees)
   {
      const RankedTree *const tree = trees.data();
      Size runs = 0, groups = 0;
      for (Size t = 0; t < trees.size(); ++t) {
         runs += t == 0 || !together(tree[t - 1], tree[t]);
         groups += t == 0 || tree[t - 1].group != tree[t].group;
      }
      runs_ = Buffer<RankedRun>(runs);
      groups_ = Buffer<RankedGroup>(groups);
      RankedRun *run = runs_.data() - 1;
      RankedGroup *group = groups_.data() - 1;
      Size row = 0, outlet = 0, place = 0;
      for (Size t = 0; t < trees.size(); ++t) {
         if (t == 0 || tree[t - 1].group != tree[t].group)
            *++group = {0, 0, run + 1 - runs_.data(), 0};
         if (t == 0 || !together(tree[t - 1], tree[t])) {
            *++run = {row, outlet, place, t, 0, tree[t].depth, tree[t].target, tree[t].walks};
            ++group->runs;
         }
         if (run->trees++ % ranked_together == 0) {
            const Size nodes = Size(ranked_together) << run->depth;
            row += nodes / row_nodes;
            outlet += nodes;
            place += ranked_together;
         }
      }
      rows_ = Buffer<std::uint8_t>(row * row_bytes);
      for (Size i = 0; i < row * row_bytes; ++i)
         rows_.data()[i] = i % row_bytes < row_nodes ? 0 : 0x80;
      outlets_ = Buffer<Outlet>(outlet);
      onwards_ = Buffer<std::uint64_t>(place);
   }

   void fill(const Source &from, const TreeColumn<T> *columns, const Questions &asked, Size slots)
   {
      tables_ = Buffer<RankTable<T>>(slots);
      columns_ = Buffer<RankColumn<Outlet>>(slots);
      make_runs(from.trees);
      make_blocks(from);
      Ranks ranks{Buffer<Int>(asked.different), Buffer<Int>(asked.different), Buffer<char>(asked.different)};
      const RankedTree *const trees = from.trees.data();
      Size slot = 0;
      for (Size g = 0; g < groups_.size(); ++g) {
         RankedGroup &group = groups_.data()[g];
         group.slot = slot;
         const RankedRun *const first = runs_.data() + group.run, *const end = first + group.runs;
         __builtin_memset(ranks.asked.data(), 0, static_cast<std::size_t>(asked.different));
         const Size last = (end - 1)->tree + (end - 1)->trees;
         for (Size t = first->tree; t < last; ++t)
            for (Size i = 0; i < from.count(trees[t]); ++i)
               if (const Int number = asked.number.data()[from.place(trees[t], i)]; number >= 0)
                  ranks.asked.data()[number] = 1;
         make_slots(group, from.nodes.data(), asked, columns, ranks);
         slot += group.slots;
         for (const RankedRun *run = first; run != end; ++run)
            for (Size t = 0; t < run->trees; ++t)
               put_tree(from, run->tree + t, t, *run, asked, ranks);
      }
   }

public:
   RankWay way = RankWay::None;

   SOFIE_INLINE const RankTable<T> *tables() const { return tables_.data(); }
   SOFIE_INLINE const RankColumn<Outlet> *columns() const { return columns_.data(); }
   SOFIE_INLINE const std::uint8_t *rows() const { return rows_.data(); }
   SOFIE_INLINE const Outlet *outlets() const { return outlets_.data(); }
   SOFIE_INLINE const RankedBlock<Outlet> *blocks() const { return blocks_.data(); }
   SOFIE_INLINE const std::uint64_t *onwards() const { return onwards_.data(); }
   SOFIE_INLINE Size groups() const { return groups_.size(); }
   SOFIE_INLINE const RankedGroup &group(Size i) const { return groups_.data()[i]; }
   SOFIE_INLINE const RankedRun &run(Size i) const { return runs_.data()[i]; }

   /// Does nothing if there are so many thresholds that ranking costs more than it saves, and than `more` cycles.
   void build(Source &from, const TreeColumns<T> &columns, Size more)
   {
      const bool wide = selects_bytes();
      const Questions asked(from.nodes.data(), from.all());
      const Size narrow = wide ? 64 : 32, most = wide ? 256 : 64, trees = from.trees.size();
      // In cycles: a slot costs 8 if its table is in no near cache, to select from more slots 6 for each tree.
      const Size few = grouped(from, asked, columns.count(), narrow);
      const Size many = grouped(from, asked, columns.count(), most);
      const Size cost = 8 * many + 6 * trees;
      if (many < 0 || (few >= 0 && 8 * few < cost ? 8 * few : cost) > otherwise(from, columns.count()) + more)
         return;
      way = few >= 0 && 8 * few < cost ? wide ? RankWay::Bytes64 : RankWay::Banks32
            : wide                     ? RankWay::Bytes256
                                       : RankWay::Banks64;
      const bool is_few = way == RankWay::Bytes64 || way == RankWay::Banks32;
      if (is_few)
         grouped(from, asked, columns.count(), narrow);
      fill(from, columns.data(), asked, is_few ? few : many);
   }
};

// Ranks --------------------------------------------------------------------------------------------

/// Bit j says that x <= t[j] does not hold, for 15 of them.
template <class T>
SOFIE_INLINE unsigned not_at_most(Pack<T> x, const T *t)
{
#if SOFIE_SIMD_BYTES == 64
   constexpr int nle = 22, rounding = 4;
   if constexpr (sizeof(T) == 4) {
      return __builtin_ia32_cmpps512_mask(x, load<16>(t), nle, static_cast<unsigned short>(0x7fff), rounding);
   } else {
      const unsigned low = __builtin_ia32_cmppd512_mask(x, load<8>(t), nle, static_cast<unsigned char>(0xff), rounding);
      const unsigned high =
         __builtin_ia32_cmppd512_mask(x, load<8>(t + 8), nle, static_cast<unsigned char>(0x7f), rounding);
      return low | high << 8;
   }
#else
   unsigned found = 0;
   SOFIE_UNROLL_ALL
   for (int i = 0; i < 16; i += lanes<T>) {
      const auto most = x <= load<lanes<T>>(t + i);
      if constexpr (sizeof(T) == 4)
         found |= static_cast<unsigned>(__builtin_ia32_movmskps256(bits<PackN<float, 8>>(most))) << i;
      else
         found |= static_cast<unsigned>(__builtin_ia32_movmskpd256(bits<PackN<double, 4>>(most))) << i;
   }
   return ~found & 0x7fffU;
#endif
}

#if SOFIE_SIMD_BYTES == 64
// clang-format off
// How many of 15 thresholds are below x.
#define SOFIE_RANK_COUNT(from, to)                               \
   "vcmpps $22, " from ", %%zmm0, %%k1%{%%k2%}\n\t"             \
   "kmovw %%k1, %k[" to "]\n\t"                                 \
   "popcnt %k[" to "], %k[" to "]\n\t"
#define SOFIE_RANK_EVENT                                                                                           \
   asm volatile(                                                                                                   \
      "mov $0x7fff, %k[rank]\n\t"                                                                                  \
      "kmovw %k[rank], %%k2\n\t"                                                                                   \
      ".p2align 5\n"                                                                                               \
      "1:\n\t"                                                                                                     \
      "movslq %c[column_feature](%[column]), %[rank]\n\t"                                                          \
      "vbroadcastss (%[x],%[rank],4), %%zmm0\n\t"                                                                  \
      "vpxord %c[column_sign](%[column])%{1to16%}, %%zmm0, %%zmm0\n\t"                                             \
      SOFIE_RANK_COUNT("(%[table])", "rank")                                                                       \
      "shl $4, %k[rank]\n\t"                                                                                       \
      SOFIE_RANK_COUNT("64(%[table],%[rank],4)", "rest")                                                           \
      "lea 1(%[rank],%[rest]), %k[rank]\n\t"                                                                       \
      "cmp $255, %k[rank]\n\t"                                                                                     \
      "ja 3f\n"                                                                                                    \
      "2:\n\t"                                                                                                     \
      "xor $-128, %k[rank]\n\t"                                                                                    \
      "mov %b[rank], (%[ranks])\n\t"                                                                               \
      "add %[column_bytes], %[column]\n\t"                                                                         \
      "add %[table_bytes], %[table]\n\t"                                                                           \
      "inc %[ranks]\n\t"                                                                                           \
      "dec %[slots]\n\t"                                                                                           \
      "jnz 1b\n\t"                                                                                                 \
      "jmp 4f\n"                                                                                                   \
      "3:\n\t"                                                                                                     \
      "mov %c[column_nan](%[column]), %k[rank]\n\t"                                                                \
      "jmp 2b\n"                                                                                                   \
      "4:\n\t"                                                                                                     \
      : [table] "+&r"(table), [column] "+&r"(column), [ranks] "+&r"(to), [slots] "+&r"(slots), [rank] "=&r"(rank), \
        [rest] "=&r"(rest)                                                                                         \
      : [x] "r"(x), SOFIE_MEMBERS(column, RankColumn<Outlet>, sign, feature, nan),                                 \
        [column_bytes] "i"(sizeof(RankColumn<Outlet>)), [table_bytes] "i"(sizeof(RankTable<T>))                    \
      : "memory", "cc", "k1", "k2", "xmm0")
// clang-format on
#endif

/// 1 + how many thresholds of each slot are below x, as signed numbers.
template <class T, class Outlet>
SOFIE_KERNEL void rank_event(const RankTable<T> *tables, const RankColumn<Outlet> *columns, Size slots, const T *x,
                             std::uint8_t *ranks)
{
   using V = Pack<T>;
#if SOFIE_SIMD_BYTES == 64
   if constexpr (sizeof(T) == 4) {
      static_assert(nan_rank == 255);
      const RankTable<T> *table = tables;
      const RankColumn<Outlet> *column = columns;
      std::uint8_t *to = ranks;
      Size rank, rest;
      if (slots > 0)
         SOFIE_RANK_EVENT;
      return;
   }
#endif
   SOFIE_UNROLL(2)
   for (Size s = 0; s < slots; ++s) {
      const V value = bits<V>(bits<Pack<Outlet>>(splat<V>(x[columns[s].feature])) ^ splat<Pack<Outlet>>(columns[s].sign));
      const int block = __builtin_popcount(not_at_most<T>(value, tables[s].pivots));
      const int rank = 16 * block + __builtin_popcount(not_at_most<T>(value, tables[s].thresholds + 16 * block));
      // Not one threshold is found to be at least NaN, not even an infinite one.
      ranks[s] = static_cast<std::uint8_t>((rank < nan_rank ? rank + 1 : columns[s].nan) ^ 0x80);
   }
}

// Comparisons --------------------------------------------------------------------------------------

// clang-format off
#define SOFIE_RANKS_CLOBBERS "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9"

#if SOFIE_SIMD_BYTES == 64
#define SOFIE_RANKS_LOOP(table, first, second)                                         \
   asm volatile(                                                                       \
      table                                                                            \
      ".p2align 5\n"                                                                   \
      "1:\n\t"                                                                         \
      "vmovdqu64 (%[rows]), %%zmm4\n\t"                                                \
      "vmovdqu64 128(%[rows]), %%zmm5\n\t"                                             \
      first second                                                                     \
      "vpcmpb $6, 64(%[rows]), %%zmm4, %%k1\n\t"                                       \
      "vpcmpb $6, 192(%[rows]), %%zmm5, %%k2\n\t"                                      \
      "kmovq %%k1, (%[masks])\n\t"                                                     \
      "kmovq %%k2, 8(%[masks])\n\t"                                                    \
      "add $256, %[rows]\n\t"                                                          \
      "add $16, %[masks]\n\t"                                                          \
      "sub $2, %[count]\n\t"                                                           \
      "jg 1b\n\t"                                                                      \
      : [rows] "+&r"(rows), [masks] "+&r"(masks), [count] "+&r"(count)                 \
      : [ranks] "r"(ranks)                                                             \
      : SOFIE_RANKS_CLOBBERS, "k1", "k2", "k3")
#define SOFIE_RANKS_64(x) "vpermb %%zmm0, %%zmm" #x ", %%zmm" #x "\n\t"
#define SOFIE_RANKS_256(x)                         \
   "vmovdqa64 %%zmm" #x ", %%zmm6\n\t"             \
   "vmovdqa64 %%zmm" #x ", %%zmm7\n\t"             \
   "vpmovb2m %%zmm" #x ", %%k3\n\t"                \
   "vpermi2b %%zmm1, %%zmm0, %%zmm6\n\t"           \
   "vpermi2b %%zmm3, %%zmm2, %%zmm7\n\t"           \
   "vpblendmb %%zmm7, %%zmm6, %%zmm" #x "%{%%k3%}\n\t"
#endif

// The bytes of 32 nodes, whose slots are in ymm4, by banks of 16 slots: those of others have bit 7,
// by which the instruction gives 0. Bank after bank another bit of the slots is turned round.
#define SOFIE_RANKS_BANK_0                    \
   "vpaddb %%ymm9, %%ymm4, %%ymm5\n\t"        \
   "vpshufb %%ymm5, %%ymm0, %%ymm6\n\t"
#define SOFIE_RANKS_BANK(b, bit)              \
   "vpxor %%ymm" #bit ", %%ymm4, %%ymm4\n\t"  \
   "vpaddb %%ymm9, %%ymm4, %%ymm5\n\t"        \
   "vpshufb %%ymm5, %%ymm" #b ", %%ymm5\n\t"  \
   "vpor %%ymm5, %%ymm6, %%ymm6\n\t"
#define SOFIE_RANKS_BANKS_32 SOFIE_RANKS_BANK_0 SOFIE_RANKS_BANK(1, 7)
#define SOFIE_RANKS_BANKS_64 SOFIE_RANKS_BANKS_32 SOFIE_RANKS_BANK(3, 8) SOFIE_RANKS_BANK(2, 7)
#define SOFIE_RANKS_HALF(at, slots)                             \
   "vmovdqu " #at "(%[rows]), %%ymm4\n\t"                       \
   SOFIE_RANKS_BANKS_##slots                                    \
   "vpcmpgtb 64+" #at "(%[rows]), %%ymm6, %%ymm6\n\t"           \
   "vpmovmskb %%ymm6, %[bits]\n\t"                              \
   "mov %[bits], " #at "/8(%[masks])\n\t"
#define SOFIE_RANKS_HALVES(slots)                               \
   asm volatile(                                                \
      "vbroadcasti128 (%[ranks]), %%ymm0\n\t"                   \
      "vbroadcasti128 16(%[ranks]), %%ymm1\n\t"                 \
      "vbroadcasti128 32(%[ranks]), %%ymm2\n\t"                 \
      "vbroadcasti128 48(%[ranks]), %%ymm3\n\t"                 \
      "vpbroadcastb (%[bytes]), %%ymm7\n\t"                     \
      "vpbroadcastb 1(%[bytes]), %%ymm8\n\t"                    \
      "vpbroadcastb 2(%[bytes]), %%ymm9\n\t"                    \
      ".p2align 5\n"                                            \
      "1:\n\t"                                                  \
      SOFIE_RANKS_HALF(0, slots)                                \
      SOFIE_RANKS_HALF(32, slots)                               \
      "add $128, %[rows]\n\t"                                   \
      "add $8, %[masks]\n\t"                                    \
      "dec %[count]\n\t"                                        \
      "jnz 1b\n\t"                                              \
      : [rows] "+&r"(rows), [masks] "+&r"(masks), [count] "+&r"(count), [bits] "=&r"(found) \
      : [ranks] "r"(ranks), [bytes] "r"(bytes)                  \
      : SOFIE_RANKS_CLOBBERS)
// clang-format on

/// A bit for each node of these rows, whose number is even: whether the rank of its number is above its threshold.
SOFIE_INLINE void
compare_rows(const std::uint8_t *rows, Size count, const std::uint8_t *ranks, RankWay way, std::uint64_t *masks)
{
#if SOFIE_SIMD_BYTES == 64
   if (way == RankWay::Bytes64) {
      SOFIE_RANKS_LOOP("vmovdqu64 (%[ranks]), %%zmm0\n\t", SOFIE_RANKS_64(4), SOFIE_RANKS_64(5));
      return;
   }
   if (way == RankWay::Bytes256) {
      SOFIE_RANKS_LOOP("vmovdqu64 (%[ranks]), %%zmm0\n\t"
                       "vmovdqu64 64(%[ranks]), %%zmm1\n\t"
                       "vmovdqu64 128(%[ranks]), %%zmm2\n\t"
                       "vmovdqu64 192(%[ranks]), %%zmm3\n\t",
                       SOFIE_RANKS_256(4), SOFIE_RANKS_256(5));
      return;
   }
#endif
   const std::uint8_t bytes[4] = {0x10, 0x20, 0x70, 0};
   unsigned found;
   if (way == RankWay::Banks32)
      SOFIE_RANKS_HALVES(32);
   else
      SOFIE_RANKS_HALVES(64);
}

// From outcomes to leaves --------------------------------------------------------------------------

/// The bits of as many trees as a register has lanes, those for the nodes 1 to 31.
template <int Depth>
SOFIE_INLINE Pack<std::uint32_t> upper_outcomes(const std::uint64_t *masks, Size tree)
{
   constexpr int n = lanes<std::uint32_t>;
   const auto *const bytes = reinterpret_cast<const std::uint8_t *>(masks) + (tree << Depth) / 8;
   if constexpr (Depth == 3)
      return convert<std::uint32_t>(load<n>(bytes));
   else if constexpr (Depth == 4)
      return convert<std::uint32_t>(load<n>(reinterpret_cast<const std::uint16_t *>(bytes)));
   else if constexpr (Depth == 5)
      return load<n>(reinterpret_cast<const std::uint32_t *>(bytes));
   else
      return every_second<0>(load<n>(reinterpret_cast<const std::uint32_t *>(bytes)),
                             load<n>(reinterpret_cast<const std::uint32_t *>(bytes) + n));
}

SOFIE_INLINE Pack<std::uint32_t> lane_numbers()
{
#if SOFIE_SIMD_BYTES == 64
   return Pack<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#else
   return Pack<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7};
#endif
}

/// Where each of `trees` crowns is left: outlet `places[t]` of all that they have. Node i is above the nodes
/// 2 i and 2 i + 1, the root is 1.
template <int Depth>
SOFIE_INLINE void follow(const std::uint64_t *masks, Size trees, std::int32_t *places)
{
   using U = Pack<std::uint32_t>;
   constexpr int n = lanes<std::uint32_t>;
   constexpr std::uint32_t outlets = 1U << Depth;
   U first = (lane_numbers() - 1) * outlets;
   for (Size t = 0; t < trees; t += n) {
      const U upper = upper_outcomes<Depth>(masks, t);
      U at = ((upper >> 1) & 1) + 2;
      SOFIE_UNROLL_ALL
      for (int level = 1; level < (Depth < 5 ? Depth : 5); ++level)
         at = at + at + ((upper >> at) & 1);
      if constexpr (Depth == 6) {
         const auto *const words = reinterpret_cast<const std::uint32_t *>(masks + t);
         const U lower = every_second<1>(load<n>(words), load<n>(words + n));
         at = at + at + ((lower >> (at - 32)) & 1);
      }
      store(places + t, bits<Pack<std::int32_t>>(at + first));
      first = first + n * outlets;
   }
}

/// What `places` say of `from`.
template <class Outlet>
SOFIE_INLINE void collect(const Outlet *from, const std::int32_t *places, Size count, Outlet *to)
{
#if SOFIE_SIMD_BYTES == 64
   constexpr int n = lanes<Outlet>;
   for (Size i = 0; i < count; i += n) {
      const auto at = load<n>(places + i);
      if constexpr (sizeof(Outlet) == 4)
         store(to + i, __builtin_ia32_gathersiv16si(Pack<Outlet>{}, from, at, static_cast<short>(-1), 4));
      else
         store(to + i, __builtin_ia32_gathersiv8df(PackN<double, 8>{}, from, at, static_cast<char>(-1), 8));
   }
#else
   SOFIE_UNROLL(8)
   for (Size i = 0; i < count; ++i)
      to[i] = from[places[i]];
#endif
}

/// Where an event leaves the crowns of up to 64 trees of a run: which of the outlets, and what that says.
template <class T, class Outlet>
SOFIE_KERNEL void leave_crowns(const RankedCrowns<T, Outlet> &crowns, const RankedRun &run, Size first, Size trees,
                               const std::uint8_t *ranks, std::int32_t *places, Outlet *to)
{
   alignas(64) std::uint64_t masks[ranked_chunk];
   const Size nodes = Size(1) << run.depth;
   compare_rows(crowns.rows() + (run.row + first * nodes / row_nodes) * row_bytes, trees * nodes / row_nodes, ranks,
                crowns.way, masks);
   if (run.depth == 6)
      follow<6>(masks, trees, places);
   else if (run.depth == 5)
      follow<5>(masks, trees, places);
   else if (run.depth == 4)
      follow<4>(masks, trees, places);
   else
      follow<3>(masks, trees, places);
   collect(crowns.outlets() + run.outlet + first * nodes, places, trees, to);
}

/// From outlets of crowns to leaves. Those that are at a block yet are kept in a list, without a branch.
template <class T, class Outlet>
SOFIE_KERNEL void go_down(const RankedCrowns<T, Outlet> &crowns, const RankedRun &run, Size first, Size count,
                          const std::uint8_t *ranks, const std::int32_t *places, Outlet *at)
{
   std::int32_t waiting[ranked_chunk];
   Size left = 0;
   const std::uint64_t *const onwards = crowns.onwards() + run.place + first;
   const std::int32_t among = (1 << run.depth) - 1;
   for (Size j = 0; j < count; ++j) {
      waiting[left] = static_cast<std::int32_t>(j);
      left += static_cast<Size>(onwards[j] >> (places[j] & among) & 1);
   }
   while (left > 0) {
      const Size now = left;
      left = 0;
      for (Size i = 0; i < now; ++i) {
         const Size j = waiting[i];
         const RankedBlock<Outlet> &block = crowns.blocks()[at[j]];
         Size node = 1;
         SOFIE_UNROLL_ALL
         for (int level = 0; level < 3; ++level)
            node = 2 * node + (static_cast<std::int8_t>(ranks[block.slots[node]]) > block.thresholds[node]);
         at[j] = block.outlets[node - block_outlets];
         waiting[left] = static_cast<std::int32_t>(j);
         left += block.onwards() >> (node - block_outlets) & 1;
      }
   }
}

/// The sum of numbers, whose count is a multiple of 16, in double: always in the same order.
template <class T, class Outlet>
SOFIE_INLINE double sum_of_numbers(const Outlet *numbers, Size count)
{
   constexpr int n = lanes<double>;
   Pack<double> sums[ranked_together / n] = {};
   SOFIE_UNROLL(4)
   for (Size i = 0; i < count; i += ranked_together)
      SOFIE_UNROLL_ALL
      for (int p = 0; p < ranked_together / n; ++p)
         sums[p] = sums[p] + convert<double>(bits<PackN<T, n>>(load<n>(numbers + i + p * n)));
   // In halves, whatever a register holds.
   SOFIE_UNROLL_ALL
   for (int half = ranked_together / n / 2; half > 0; half /= 2)
      for (int p = 0; p < half; ++p)
         sums[p] = sums[p] + sums[p + half];
   return sum_of_lanes(sums[0]);
}

} // namespace sofie

SOFIE_END

#endif

#endif
