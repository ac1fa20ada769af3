/// \file
/// Trees that are walked from their roots to their leaves, node by node.
///
/// A step takes a cycle or two, but waits for the one before it, and in large forests for memory. So many walks go
/// on side by side, of several trees, of several events, or both; and what is near in a tree shares cache lines.
#ifndef SOFIE_KERNELS_TREES_WALKS_HXX
#define SOFIE_KERNELS_TREES_WALKS_HXX

#include "sofie/kernels/trees/arrays.hxx"

SOFIE_BEGIN

namespace sofie {

/// Integers in the order of the numbers: comparing them takes less time. 0 is below all numbers.
template <class T>
using KeyOf = std::make_unsigned_t<Outlet<T>>;

/// The key of a number; NaN, which is at most nothing, is above all.
template <class T>
SOFIE_INLINE KeyOf<T> key_of(T number)
{
   constexpr int last = 8 * sizeof(T) - 1;
   // Of two zeros, which are equal, one is left.
   const auto signed_bits = bits<Outlet<T>>(number + T(0));
   const auto key = static_cast<KeyOf<T>>(signed_bits ^ ((signed_bits >> last) | (Outlet<T>(1) << last)));
   return number == number ? key : ~KeyOf<T>(0);
}

/// To node `way >> bits` if the key of a column is at most the threshold, else to the one behind that; the lowest
/// `bits` of `way` are the column. Column 0 is above all: a leaf leads to itself, and its threshold is its value.
template <class T, class Way>
struct WalkNode {
   KeyOf<T> threshold;
   Way way;
};

/// How many walks are listed at least, where there are as many, and at most; how many go on in step, and how far
/// before the next ones have their turn.
inline constexpr Size fewest_walks = 64, most_walks = 256;
inline constexpr int walkers = 6, walk_steps = 4;

/// Walks that are at no leaf: where each is, its number, and the row of its event; and where all have got to.
template <class T>
struct Walks {
   // Others that nobody waits for are listed as well, up to whole groups, and a group behind them.
   static constexpr Size most = most_walks + 2 * walkers, nobody = most_walks;

   std::int32_t at[most], number[most], ends[most_walks + 1];
   const KeyOf<T> *row[most];
};

/// Some steps of a few walks; those at leaves stay there.
template <class T, class Way>
SOFIE_INLINE void take_steps(const WalkNode<T, Way> *nodes, int bits, const KeyOf<T> *const *rows, std::int32_t *ats)
{
   const Way columns = (Way(1) << bits) - 1;
   Size at[walkers];
   SOFIE_UNROLL_ALL
   for (int j = 0; j < walkers; ++j)
      at[j] = ats[j];
   SOFIE_UNROLL_ALL
   for (int s = 0; s < walk_steps; ++s)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < walkers; ++j) {
         const WalkNode<T, Way> &node = nodes[at[j]];
         at[j] = static_cast<Size>(node.way >> bits) + (node.threshold < rows[j][node.way & columns] ? 1 : 0);
      }
   SOFIE_UNROLL_ALL
   for (int j = 0; j < walkers; ++j)
      ats[j] = static_cast<std::int32_t>(at[j]);
}

// As Cling compiles that, it takes twice as many instructions.
#if defined(SOFIE_X86) && SOFIE_SIMD_BYTES >= 32 && (defined(SOFIE_TARGET) || defined(__BMI2__))
// clang-format off
#define SOFIE_WALK_STEP(a, j)                          \
   "mov 4(%[nodes],%[at" #a "],8), %k[way]\n\t"        \
   "mov (%[nodes],%[at" #a "],8), %k[key]\n\t"         \
   "bzhi %k[bits], %k[way], %k[column]\n\t"            \
   "shrx %k[bits], %k[way], %k[at" #a "]\n\t"          \
   "mov 8*" #j "(%[rows]), %[way]\n\t"                 \
   "cmp (%[way],%[column],4), %k[key]\n\t"             \
   "adc $0, %k[at" #a "]\n\t"
#define SOFIE_WALK_STEPS SOFIE_WALK_STEP(0, 0) SOFIE_WALK_STEP(1, 1) SOFIE_WALK_STEP(2, 2) \
   SOFIE_WALK_STEP(3, 3) SOFIE_WALK_STEP(4, 4) SOFIE_WALK_STEP(5, 5)
SOFIE_INLINE void take_steps(const WalkNode<float, std::uint32_t> *nodes, int bits, const std::uint32_t *const *rows,
                             std::int32_t *ats)
{
   static_assert(walkers == 6 && walk_steps == 4, "as it is written out");
   Size at0 = ats[0], at1 = ats[1], at2 = ats[2], at3 = ats[3], at4 = ats[4], at5 = ats[5], way, key, column;
   // Stored here: as a vector of all that would wait for each of them.
   asm volatile(
      SOFIE_WALK_STEPS SOFIE_WALK_STEPS SOFIE_WALK_STEPS SOFIE_WALK_STEPS
      "mov %k[at0], (%[ats])\n\t"
      "mov %k[at1], 4(%[ats])\n\t"
      "mov %k[at2], 8(%[ats])\n\t"
      "mov %k[at3], 12(%[ats])\n\t"
      "mov %k[at4], 16(%[ats])\n\t"
      "mov %k[at5], 20(%[ats])\n\t"
      : [at0] "+&r"(at0), [at1] "+&r"(at1), [at2] "+&r"(at2), [at3] "+&r"(at3), [at4] "+&r"(at4), [at5] "+&r"(at5),
        [way] "=&r"(way), [key] "=&r"(key), [column] "=&r"(column)
      : [nodes] "r"(nodes), [bits] "r"(bits), [rows] "r"(rows), [ats] "r"(ats)
      : "memory", "cc");
}
// clang-format on
#endif

/// From nodes to leaves. After `turns` and then after each one, walks that have got there leave the list, without a
/// branch.
template <class T, class Way>
SOFIE_KERNEL void walk(const WalkNode<T, Way> *nodes, int bits, int turns, Walks<T> &walks, Size count)
{
   const Way columns = (Way(1) << bits) - 1;
   for (Size i = 0; i < count; ++i)
      walks.number[i] = static_cast<std::int32_t>(i);
   while (count > 0) {
      for (int j = 0; j < walkers - 1; ++j) {
         walks.at[count + j] = walks.at[0];
         walks.row[count + j] = walks.row[0];
         walks.number[count + j] = Walks<T>::nobody;
      }
      Size left = 0;
      for (Size i = 0; i < count; i += walkers) {
         for (int turn = 0; turn < turns; ++turn)
            take_steps(nodes, bits, walks.row + i, walks.at + i);
         SOFIE_UNROLL_ALL
         for (int j = 0; j < walkers; ++j) {
            const std::int32_t at = walks.at[i + j], number = walks.number[i + j];
            const KeyOf<T> *const row = walks.row[i + j];
            walks.ends[number] = at;
            walks.at[left] = at;
            walks.number[left] = number;
            walks.row[left] = row;
            left += (nodes[at].way & columns) != 0;
         }
      }
      count = left;
      turns = 1;
   }
}

/// Trees as nodes to walk on.
template <class T, class Way>
class WalkedTrees {
   using Int = std::int32_t;
   using Node = WalkNode<T, Way>;

   Buffer<Node> nodes_;
   Buffer<Int> roots_;
   int bits_ = 0, turns_ = 1;

   /// Which pair of nodes the children of each node are: those that are near in a tree share cache lines.
   struct Pairs {
      static constexpr Size in_line = 64 / (2 * sizeof(Node));

      Buffer<Int> inner, pair, waiting;
      Size used = 0, seeds = 0;

      template <class L>
      explicit Pairs(const TreeArrays<T, L> &a) : inner(a.nodes), pair(a.nodes), waiting(2 * a.nodes + 1)
      {
         for (Size i = a.nodes; i-- > 0;) {
            pair.data()[i] = -1;
            if (!a.is_leaf(i)) {
               const Size below = Size(inner.data()[a.child(i, 0)]) + inner.data()[a.child(i, 1)];
               inner.data()[i] = static_cast<Int>(below < (1 << 29) ? below + 1 : below);
            }
         }
      }
   SOFIE_INLINE bool is_open(Int node) const { return inner.data()[node] > 0 && pair.data()[node] < 0; }

      /// How many pairs can follow in a line: a whole one, where as many as are wanted do not fit into the rest.
      Size space_for(Size wanted)
      {
         const Size space = in_line - used % in_line;
         if (space >= wanted || space == in_line)
            return space;
         used += space;
         return in_line;
      }

      /// The children of `seed` and of what is below it, largest trees first, up to the end of a line.
      template <class L>
      void fill_line(const TreeArrays<T, L> &a, Int seed, Size space)
      {
         Int open[in_line + 2] = {seed};
         Size count = 1;
         while (count > 0 && space > 0) {
            const Int node = take_largest(open, count);
            if (!is_open(node))
               continue; // Two ways lead to it.
            pair.data()[node] = static_cast<Int>(used++);
            --space;
            for (Size side = 0; side < 2; ++side)
               if (is_open(a.child(node, side)))
                  open[count++] = a.child(node, side);
         }
         // The largest is the next one.
         const Size first = seeds;
         while (count > 0)
            waiting.data()[seeds++] = take_largest(open, count);
         for (Size i = first, j = seeds - 1; i < j; ++i, --j) {
            const Int other = waiting.data()[i];
            waiting.data()[i] = waiting.data()[j];
            waiting.data()[j] = other;
         }
      }
      Int take_largest(Int *open, Size &count) const
      {
         Size best = 0;
         for (Size i = 1; i < count; ++i)
            if (inner.data()[open[i]] > inner.data()[open[best]])
               best = i;
         const Int node = open[best];
         open[best] = open[--count];
         return node;
      }

      /// All that is below a root, whose own pair comes before; that is returned.
      template <class L>
      Size place_tree(const TreeArrays<T, L> &a, Int root)
      {
         const Size space = space_for(inner.data()[root] + 1), own = used++;
         if (!is_open(root))
            return own;
         fill_line(a, root, space - 1);
         while (seeds > 0)
            if (const Int seed = waiting.data()[--seeds]; is_open(seed))
               fill_line(a, seed, space_for(inner.data()[seed]));
         return own;
      }
   };

   /// After how many turns half of all leaves are reached.
   template <class L>
   static int turns_for(const TreeArrays<T, L> &a, const Pairs &pairs)
   {
      // Each node makes the way to all leaves below it longer.
      double steps = 0, leaves = 0;
      for (Size i = 0; i < a.nodes; ++i)
         steps += a.is_leaf(i) ? 0 : 1.0 + pairs.inner.data()[i];
      for (Size t = 0; t < a.trees; ++t)
         leaves += 1.0 + pairs.inner.data()[a.roots[t]];
      const Size mean = static_cast<Size>(steps / (leaves > 0 ? leaves : 1) + 0.99);
      const Size turns = (mean + walk_steps - 1) / walk_steps;
      return static_cast<int>(turns < 1 ? 1 : turns < 8 ? turns : 8);
   }

   void put(Size slot, KeyOf<T> threshold, Size first, Size column)
   {
      nodes_.data()[slot] = {threshold, static_cast<Way>(static_cast<Way>(first) << bits_ | static_cast<Way>(column))};
   }

   template <class L>
   void put(Size slot, const TreeArrays<T, L> &a, const TreeColumns<T> &columns, Int node, const Pairs &pairs,
            LeafLists<L> *lists)
   {
      if (!a.is_leaf(node)) {
         const T threshold = columns.threshold(a, node);
         const KeyOf<T> key = threshold == threshold ? key_of(threshold) : 0;
         put(slot, key, 2 * Size(pairs.pair.data()[node]), columns.column(a, node) + 1);
      } else if (lists) {
         put(slot, static_cast<KeyOf<T>>(lists->number_of(a, node)), slot - 1, 0);
      } else {
         // One NaN has the bits of column 0.
         const T value = a.value(node);
         put(slot, bits<KeyOf<T>>(value == value ? value : static_cast<T>(__builtin_nan(""))), slot - 1, 0);
      }
   }

public:
   WalkedTrees() = default;
   /// With `lists`, what a leaf has is the number of its list there.
   template <class L>
   WalkedTrees(const TreeArrays<T, L> &a, const TreeColumns<T> &columns, LeafLists<L> *lists) : roots_(a.trees)
   {
      while (columns.count() >> bits_ > 0)
         ++bits_;
      Pairs pairs(a);
      for (Size t = 0; t < a.trees; ++t)
         roots_.data()[t] = static_cast<Int>(2 * pairs.place_tree(a, a.roots[t]) + 1);
      const int space = static_cast<int>(8 * sizeof(Way)) - bits_;
      a.require(2 * pairs.used <= Size(1) << (space < 30 ? space : 30), "trees: there are too many nodes");
      turns_ = turns_for(a, pairs);
      nodes_ = Buffer<Node>(2 * pairs.used);
      for (Size t = 0; t < a.trees; ++t)
         put(roots_.data()[t], a, columns, a.roots[t], pairs, lists);
      for (Int i = 0; i < a.nodes; ++i)
         if (const Size pair = pairs.pair.data()[i]; pair >= 0)
            for (Size side = 0; side < 2; ++side)
               put(2 * pair + side, a, columns, columns.child(a, i, side == 0), pairs, lists);
   }

   SOFIE_INLINE const Node *nodes() const { return nodes_.data(); }
   SOFIE_INLINE int column_bits() const { return bits_; }
   SOFIE_INLINE int turns() const { return turns_; }
   SOFIE_INLINE Int root(Size tree) const { return roots_.data()[tree]; }
};

} // namespace sofie

SOFIE_END

#endif
