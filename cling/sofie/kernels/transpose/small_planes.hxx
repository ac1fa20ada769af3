/// \file
/// Small planes that lie side by side: the elements of as many as two registers hold are picked from these by their
/// numbers.
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

} // namespace sofie

SOFIE_END

#endif

#endif
