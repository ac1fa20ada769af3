/// \file
/// Elements that are picked from registers by their numbers: of small planes that lie side by side, as many as two
/// registers hold, and of planes with up to seven rows or columns that take turns.
#ifndef SOFIE_KERNELS_TRANSPOSE_SMALL_PLANES_HXX
#define SOFIE_KERNELS_TRANSPOSE_SMALL_PLANES_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/transpose/blocks.hxx"
#include "sofie/kernels/transpose/any_size.hxx"

#ifdef SOFIE_TRANSPOSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// The integers in registers: bytes are widened there, as not all CPUs with such registers can pick bytes.
template <int Bytes>
using Picked = Moved<Bytes == 1 ? 2 : Bytes>;

/// How many of them a register holds.
template <int Bytes>
inline constexpr Size picked_lanes = 64 / static_cast<Size>(sizeof(Picked<Bytes>));

/// Runs of elements, each of which is picked from one run: `count` runs of `bytes` bytes. Those of the second register
/// that exist are in `mask`.
struct PickedRuns {
   char *to;
   const char *from;
   Size count, bytes, mask;
   const void *numbers; ///< for the elements of a run, which one of it each is
};

// clang-format off
#define SOFIE_PICK_LOOP(load, pick, store, second)                                                              \
   "vmovdqu64 (%[numbers]), %%zmm2\n\tvmovdqu64 64(%[numbers]), %%zmm3\n\tkmovd %k[mask], %%k1\n\t"             \
   "1:\n\t" load " (%[from]), %%zmm0\n\t" load " " second "(%[from]), %%zmm1%{%%k1%}%{z%}\n\t"                 \
   "vmovdqa64 %%zmm2, %%zmm4\n\tvmovdqa64 %%zmm3, %%zmm5\n\t"                                                 \
   pick " %%zmm1, %%zmm0, %%zmm4\n\t" pick " %%zmm1, %%zmm0, %%zmm5\n\t"                                      \
   store " %%zmm4, (%[to])\n\t" store " %%zmm5, " second "(%[to])%{%%k1%}\n\t"                                \
   "add %[bytes], %[from]\n\tadd %[bytes], %[to]\n\tdec %[count]\n\tjnz 1b\n\t"
#define SOFIE_PICK_RUNS(load, pick, store, second)                                                              \
   asm volatile(SOFIE_PICK_LOOP(load, pick, store, second)                                                      \
                : [to] "+&r"(to), [from] "+&r"(from), [count] "+&r"(count)                                      \
                : [bytes] "r"(runs.bytes), [mask] "r"(runs.mask), [numbers] "r"(runs.numbers)                   \
                : "memory", "cc", "k1", SOFIE_ALL_PACKS)
// clang-format on

template <int Bytes>
SOFIE_KERNEL void pick_runs(const PickedRuns &runs)
{
   char *to = runs.to;
   const char *from = runs.from;
   Size count = runs.count;
   if constexpr (Bytes == 1)
      SOFIE_PICK_RUNS("vpmovzxbw", "vpermi2w", "vpmovwb", "32");
   else if constexpr (Bytes == 2)
      SOFIE_PICK_RUNS("vmovdqu16", "vpermi2w", "vmovdqu16", "64");
   else if constexpr (Bytes == 4)
      SOFIE_PICK_RUNS("vmovdqu32", "vpermi2d", "vmovdqu32", "64");
   else
      SOFIE_PICK_RUNS("vmovdqu64", "vpermi2q", "vmovdqu64", "64");
}

/// Turns planes of which two registers hold one at least, if they and all their rows and columns are side by side;
/// whether they are.
template <int Bytes>
SOFIE_KERNEL bool transpose_small_planes(const TransposedPlanes &all)
{
   constexpr Size most = 2 * picked_lanes<Bytes>;
   const Size size = all.rows * all.columns, bytes = size * Bytes;
   if (size > most || all.from_step != all.columns * Bytes || all.to_step != all.rows * Bytes ||
       all.from_plane != bytes || all.to_plane != bytes || all.planes * size < most)
      return false;
   // More than one register is full of them, as they are more than half of what two hold.
   const Size together = most / size;
   Size elements = 0;
   Picked<Bytes> numbers[most] = {};
   for (Size p = 0; p < together; ++p)
      for (Size j = 0; j < all.columns; ++j)
         for (Size i = 0; i < all.rows; ++i, ++elements)
            numbers[elements] = static_cast<Picked<Bytes>>(p * size + i * all.columns + j);
   const Size mask = (Size{1} << (elements - most / 2)) - 1, runs = all.planes / together;
   pick_runs<Bytes>({all.to, all.from, runs, together * bytes, mask, numbers});
   // The last ones with some of those before them.
   const Size last = (all.planes - together) * bytes;
   if (runs * together < all.planes)
      pick_runs<Bytes>({all.to + last, all.from + last, 1, bytes, mask, numbers});
   return true;
}

/// So many rows or columns can take turns; from so many elements on that pays for its table.
inline constexpr Size most_turns = 7, worth_a_table = 8000;

/// Chunks of elements that take turns: `outputs` registers, each with elements of all that are read. `table` has, for
/// each output, the numbers of its elements in the first two registers; then, for each further two, the numbers and the
/// mask of what is picked there. From the first chunk to the second it is `first_*` bytes, else `next_*`.
struct TakenTurns {
   const char *from;
   Size from_step, last_from_step; ///< from a register's elements to those of the next one, or of the last one
   char *to;
   Size to_step, outputs;
   const void *table;
   Size count, first_from, first_to, next_from, next_to;
};

// clang-format off
#define SOFIE_TURNS_LOAD(load, a, b)                                                                            \
   "add %[step], %[at]\n\t" load " (%[at]), %%zmm" #a "\n\tadd %[step], %[at]\n\t" load " (%[at]), %%zmm" #b "\n\t"
#define SOFIE_TURNS_MERGE(pick, place, mask, a, b)                                                              \
   "vmovdqu64 " place "(%[table]), %%zmm9\n\t" pick " %%zmm" #b ", %%zmm" #a ", %%zmm9\n\t"                     \
   "vpternlogd $0xd8, " mask "(%[table]), %%zmm9, %%zmm8\n\t"
// The first register of those that are read, more of them, and then the last one, which may be the one before it.
#define SOFIE_TURNS_LOOP(load, pick, store, more_loads, more_picks, last, bytes)                                      \
   "mov %c[turns_from](%[turns]), %[from]\n\tmov %c[turns_to](%[turns]), %[to]\n\t"                                   \
   "mov %c[turns_from_step](%[turns]), %[step]\n\t"                                                                   \
   "mov %c[turns_count](%[turns]), %[count]\n\t"                                                                      \
   "1:\n\tmov %[from], %[at]\n\t" load " (%[at]), %%zmm0\n\t" more_loads                                              \
   "add %c[turns_last_from_step](%[turns]), %[at]\n\t" load " (%[at]), %%zmm" last "\n\t"                             \
   "mov %c[turns_table](%[turns]), %[table]\n\tmov %c[turns_outputs](%[turns]), %[left]\n\tmov %[to], %[at]\n\t"      \
   "2:\n\tvmovdqu64 (%[table]), %%zmm8\n\t" pick " %%zmm1, %%zmm0, %%zmm8\n\t" more_picks                             \
   store " %%zmm8, (%[at])\n\tadd $" bytes ", %[table]\n\t"                                                           \
   "add %c[turns_to_step](%[turns]), %[at]\n\tdec %[left]\n\tjnz 2b\n\t"                                              \
   "cmp %c[turns_count](%[turns]), %[count]\n\tje 3f\n\t"                                                             \
   "add %c[turns_next_from](%[turns]), %[from]\n\tadd %c[turns_next_to](%[turns]), %[to]\n\tjmp 4f\n\t"               \
   "3:\n\tadd %c[turns_first_from](%[turns]), %[from]\n\tadd %c[turns_first_to](%[turns]), %[to]\n\t"                 \
   "4:\n\tdec %[count]\n\tjnz 1b\n\t"
#define SOFIE_TURNS_ASSEMBLER(load, pick, store, more_loads, more_picks, last, bytes)                           \
   asm volatile(SOFIE_TURNS_LOOP(load, pick, store, more_loads, more_picks, last, bytes)                        \
                : [from] "=&r"(from), [to] "=&r"(to), [step] "=&r"(step), [at] "=&r"(at), [left] "=&r"(left),   \
                  [table] "=&r"(table), [count] "=&r"(count)                                                    \
                : [turns] "r"(&turns),                                                                          \
                  SOFIE_MEMBERS(turns, TakenTurns, from, from_step, last_from_step, to, to_step, outputs,       \
                     table, count, first_from, first_to, next_from, next_to)                                    \
                : "memory", "cc", SOFIE_ALL_PACKS)
#define SOFIE_TURNS_TWO(load, pick, store) SOFIE_TURNS_ASSEMBLER(load, pick, store, "", "", "1", "64")
#define SOFIE_TURNS_FOUR(load, pick, store)                                                                     \
   SOFIE_TURNS_ASSEMBLER(load, pick, store, SOFIE_TURNS_LOAD(load, 1, 2),                                       \
                         SOFIE_TURNS_MERGE(pick, "64", "128", 2, 3), "3", "192")
#define SOFIE_TURNS_SIX(load, pick, store)                                                                      \
   SOFIE_TURNS_ASSEMBLER(load, pick, store, SOFIE_TURNS_LOAD(load, 1, 2) SOFIE_TURNS_LOAD(load, 3, 4),          \
                         SOFIE_TURNS_MERGE(pick, "64", "128", 2, 3)                                             \
                         SOFIE_TURNS_MERGE(pick, "192", "256", 4, 5), "5", "320")
#define SOFIE_TURNS_EIGHT(load, pick, store)                                                                    \
   SOFIE_TURNS_ASSEMBLER(load, pick, store,                                                                     \
                         SOFIE_TURNS_LOAD(load, 1, 2) SOFIE_TURNS_LOAD(load, 3, 4) SOFIE_TURNS_LOAD(load, 5, 6),\
                         SOFIE_TURNS_MERGE(pick, "64", "128", 2, 3) SOFIE_TURNS_MERGE(pick, "192", "256", 4, 5) \
                         SOFIE_TURNS_MERGE(pick, "320", "384", 6, 7), "7", "448")
#define SOFIE_TURNS_ALL(load, pick, store)                                                                      \
   if (turns.outputs > 6)                                                                                       \
      SOFIE_TURNS_EIGHT(load, pick, store);                                                                     \
   else if (turns.outputs > 4)                                                                                  \
      SOFIE_TURNS_SIX(load, pick, store);                                                                       \
   else if (turns.outputs > 2)                                                                                  \
      SOFIE_TURNS_FOUR(load, pick, store);                                                                      \
   else                                                                                                         \
      SOFIE_TURNS_TWO(load, pick, store)
// clang-format on

template <int Bytes>
SOFIE_KERNEL void pick_turns(const TakenTurns &turns)
{
   Size from, to, step, at, left, table, count;
   if constexpr (Bytes == 1) {
      SOFIE_TURNS_ALL("vpmovzxbw", "vpermi2w", "vpmovwb");
   } else if constexpr (Bytes == 2) {
      SOFIE_TURNS_ALL("vmovdqu16", "vpermi2w", "vmovdqu16");
   } else if constexpr (Bytes == 4) {
      SOFIE_TURNS_ALL("vmovdqu32", "vpermi2d", "vmovdqu32");
   } else {
      SOFIE_TURNS_ALL("vmovdqu64", "vpermi2q", "vmovdqu64");
   }
}

/// The table for `turns` rows that become one, or for one that becomes `turns` columns, if they are to be `apart`.
template <class Number>
SOFIE_KERNEL void number_turns(Number *table, Size turns, bool apart)
{
   constexpr Size n = 64 / static_cast<Size>(sizeof(Number));
   const Size of_output = (turns + 1) / 2 * 2 - 1;
   // Element `lane` of register `source` is the next one.
   Size source = 0, lane = 0;
   __builtin_memset(table, 0, static_cast<std::size_t>(turns * of_output * 64));
   for (Size o = 0; o < turns; ++o, table += of_output * n) {
      if (apart) {
         source = 0;
         lane = o;
      }
      for (Size i = 0; i < n; ++i) {
         const Size pair = source / 2;
         table[(pair == 0 ? 0 : 2 * pair - 1) * n + i] = static_cast<Number>(source % 2 * n + lane);
         if (pair > 0)
            table[2 * pair * n + i] = static_cast<Number>(~Number{});
         if (apart) {
            lane += turns;
            if (lane >= n) {
               lane -= n;
               ++source;
            }
         } else if (++source == turns) {
            source = 0;
            ++lane;
         }
      }
   }
}

/// Turns planes of up to seven rows that become one row of elements in turn, or the other way; whether they are such.
template <int Bytes>
SOFIE_KERNEL bool transpose_by_turns(const TransposedPlanes &all)
{
   constexpr Size n = picked_lanes<Bytes>, register_bytes = n * Bytes;
   const bool apart = all.columns <= most_turns && all.rows >= n && all.from_step == all.columns * Bytes;
   const bool joined = all.rows <= most_turns && all.columns >= n && all.to_step == all.rows * Bytes;
   const Size turns = apart ? all.columns : all.rows, length = apart ? all.rows : all.columns;
   // Blocks of four bytes are as fast without.
   if ((!apart && !joined) || (Bytes == 1 && turns == 4) || all.planes * turns * length < worth_a_table)
      return false;
   Picked<Bytes> table[most_turns * most_turns * n];
   number_turns(table, turns, apart);
   TakenTurns taken{};
   taken.from_step = apart ? register_bytes : all.from_step;
   taken.last_from_step = turns % 2 == 0 ? taken.from_step : 0;
   taken.to_step = apart ? all.to_step : register_bytes;
   taken.outputs = turns;
   taken.table = table;
   taken.count = (length + n - 1) / n;
   const Size first = length - n * (taken.count - 1);
   const Size from_turns = (apart ? turns : 1) * Bytes, to_turns = (apart ? 1 : turns) * Bytes;
   taken.first_from = first * from_turns;
   taken.first_to = first * to_turns;
   taken.next_from = n * from_turns;
   taken.next_to = n * to_turns;
   for (Size p = 0; p < all.planes; ++p) {
      taken.from = all.from + p * all.from_plane;
      taken.to = all.to + p * all.to_plane;
      pick_turns<Bytes>(taken);
   }
   return true;
}

} // namespace sofie

SOFIE_END

#endif

#endif
