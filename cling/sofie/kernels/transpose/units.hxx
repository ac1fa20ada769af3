/// \file
/// Numbers of 4 bytes whose rows become columns, a unit of 16 by 4 or of 4 by 16 at a time: where there are few columns
/// or few rows, blocks of 16 by 16 would be mostly empty.
#ifndef SOFIE_KERNELS_TRANSPOSE_UNITS_HXX
#define SOFIE_KERNELS_TRANSPOSE_UNITS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/transpose/blocks.hxx"
#include "sofie/kernels/transpose/any_size.hxx"

#ifdef SOFIE_TRANSPOSE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// `count` units one after the other. From the first to the second it is `first_*` bytes, from each other to its next
/// one `next_*`: the second one may begin within the first, so that the last one ends where the numbers end.
struct TransposedUnits {
   const char *from;
   Size from_step; ///< from a row that is read to the next
   char *to;
   Size to_step; ///< from a row that is written to the next
   Size count, first_from, first_to, next_from, next_to;
};

// clang-format off
// Rows of a unit are in registers 0 to 3, four to each: number q of register r is row 4 * q + r of what has 16. Then
// the numbers of the quarters change places.
#define SOFIE_UNIT_TRANSPOSED                                                                                   \
   SOFIE_TRANSPOSE_PAIR("ps", 4, 5, 0, 1) SOFIE_TRANSPOSE_PAIR("ps", 6, 7, 2, 3)                                \
   SOFIE_TRANSPOSE_PAIR("pd", 0, 1, 4, 6) SOFIE_TRANSPOSE_PAIR("pd", 2, 3, 5, 7)
// `place` is the one of four rows, of which the first begins where the register of each quarter points to.
#define SOFIE_UNIT_READ(number, place)                                                                          \
   "vmovups (%[q0]" place "), %%xmm" #number "\n\t"                                                             \
   "vbroadcastf32x4 (%[q1]" place "), %%zmm" #number "%{%%k1%}\n\t"                                             \
   "vbroadcastf32x4 (%[q2]" place "), %%zmm" #number "%{%%k2%}\n\t"                                             \
   "vbroadcastf32x4 (%[q3]" place "), %%zmm" #number "%{%%k3%}\n\t"
#define SOFIE_UNIT_WRITE(number, place)                                                                         \
   "vmovups %%xmm" #number ", (%[q0]" place ")\n\t"                                                             \
   "vextractf32x4 $1, %%zmm" #number ", (%[q1]" place ")\n\t"                                                   \
   "vextractf32x4 $2, %%zmm" #number ", (%[q2]" place ")\n\t"                                                   \
   "vextractf32x4 $3, %%zmm" #number ", (%[q3]" place ")\n\t"
#define SOFIE_UNIT_APART(kind)                                                                                  \
   kind(0, "") kind(1, ",%[near]") kind(2, ",%[near],2") kind(3, ",%[near3]")
#define SOFIE_UNIT_LOAD                                                                                         \
   "vmovups (%[row]), %%zmm0\n\tvmovups (%[row],%[far]), %%zmm1\n\t"                                            \
   "vmovups (%[row],%[far],2), %%zmm2\n\tvmovups (%[row],%[far3]), %%zmm3\n\t"
#define SOFIE_UNIT_STORE                                                                                        \
   "vmovups %%zmm0, (%[row])\n\tvmovups %%zmm1, (%[row],%[far])\n\t"                                            \
   "vmovups %%zmm2, (%[row],%[far],2)\n\tvmovups %%zmm3, (%[row],%[far3])\n\t"
#define SOFIE_UNIT_AT(member) "%c[units_" #member "](%[units])"
// `near` is the step of the side with 16 rows, `far` that of the side with four.
#define SOFIE_UNIT_BEGIN(quarters, row)                                                                         \
   "mov " SOFIE_UNIT_AT(quarters) ", %[q0]\n\tmov " SOFIE_UNIT_AT(quarters##_step) ", %[near]\n\t"                \
   "mov " SOFIE_UNIT_AT(row) ", %[row]\n\tmov " SOFIE_UNIT_AT(row##_step) ", %[far]\n\t"                          \
   "lea (%[q0],%[near],4), %[q1]\n\tlea (%[q1],%[near],4), %[q2]\n\tlea (%[q2],%[near],4), %[q3]\n\t"           \
   "lea (%[near],%[near],2), %[near3]\n\tlea (%[far],%[far],2), %[far3]\n\t"                                    \
   "mov %c[units_count](%[units]), %[left]\n\t"
#define SOFIE_UNIT_MOVE(quarters_on, row_on)                                                                    \
   "add " SOFIE_UNIT_AT(quarters_on) ", %[q0]\n\tadd " SOFIE_UNIT_AT(quarters_on) ", %[q1]\n\t"                   \
   "add " SOFIE_UNIT_AT(quarters_on) ", %[q2]\n\tadd " SOFIE_UNIT_AT(quarters_on) ", %[q3]\n\t"                   \
   "add " SOFIE_UNIT_AT(row_on) ", %[row]\n\t"
#define SOFIE_UNIT_LOOP(work, quarters, row)                                                                    \
   work SOFIE_UNIT_MOVE(first_##quarters, first_##row) "jmp 2f\n\t"                                             \
   "1:\n\t" work SOFIE_UNIT_MOVE(next_##quarters, next_##row) "2:\n\tdec %[left]\n\tjnz 1b\n\t"
#define SOFIE_UNIT_ASSEMBLER(code)                                                                              \
   Size q0, q1, q2, q3, near, near3, row, far, far3, left;                                                      \
   asm volatile(code                                                                                            \
                : [q0] "=&r"(q0), [q1] "=&r"(q1), [q2] "=&r"(q2), [q3] "=&r"(q3), [near] "=&r"(near),           \
                  [near3] "=&r"(near3), [row] "=&r"(row), [far] "=&r"(far), [far3] "=&r"(far3),                 \
                  [left] "=&r"(left)                                                                            \
                : [units] "r"(&units),                                                                          \
                  SOFIE_MEMBERS(units, TransposedUnits, from, from_step, to, to_step, count, first_from, first_to, \
                     next_from, next_to)                                                                        \
                : "memory", "cc", "k1", "k2", "k3", SOFIE_ALL_PACKS)
#define SOFIE_UNIT_MASKS                                                                                        \
   "mov $0xf0, %k[left]\n\tkmovw %k[left], %%k1\n\tkshiftlw $4, %%k1, %%k2\n\tkshiftlw $8, %%k1, %%k3\n\t"
// clang-format on

/// 16 rows of 4 numbers become 4 rows of 16.
SOFIE_KERNEL inline void transpose_tall_units(const TransposedUnits &units)
{
   SOFIE_UNIT_ASSEMBLER(SOFIE_UNIT_MASKS SOFIE_UNIT_BEGIN(from, to) SOFIE_UNIT_LOOP(
      SOFIE_UNIT_APART(SOFIE_UNIT_READ) SOFIE_UNIT_TRANSPOSED SOFIE_UNIT_STORE, from, to));
}

/// 4 rows of 16 numbers become 16 rows of 4.
SOFIE_KERNEL inline void transpose_wide_units(const TransposedUnits &units)
{
   SOFIE_UNIT_ASSEMBLER(SOFIE_UNIT_BEGIN(to, from) SOFIE_UNIT_LOOP(
      SOFIE_UNIT_LOAD SOFIE_UNIT_TRANSPOSED SOFIE_UNIT_APART(SOFIE_UNIT_WRITE), to, from));
}

/// One axis of a plane of numbers: how many there are, how many of them are in a unit, and the bytes from one to the
/// next.
struct UnitAxis {
   Size extent, unit, from, to;
};

/// The rows and columns of a unit, or its columns and rows.
inline constexpr Size unit_many = 16, unit_few = 4;

/// Turns planes of numbers of 4 bytes with 16 rows and 4 columns, or 4 rows and 16 columns, at least; whether they are
/// such.
SOFIE_KERNEL inline bool transpose_by_units(const TransposedPlanes &all)
{
   constexpr Size many = unit_many, few = unit_few, bytes = 4;
   const Size less = all.rows < all.columns ? all.rows : all.columns;
   if (less < few || (all.rows < many && all.columns < many))
      return false;
   const bool tall = all.rows >= many, is_narrow = tall && all.columns < many;
   const UnitAxis axes[] = {{all.rows, tall ? many : few, all.from_step, bytes},
                            {all.columns, tall ? few : many, bytes, all.to_step}};
   const UnitAxis &inner = axes[is_narrow ? 0 : 1], &outer = axes[is_narrow ? 1 : 0];
   TransposedUnits units{};
   units.from_step = all.from_step;
   units.to_step = all.to_step;
   units.count = (inner.extent + inner.unit - 1) / inner.unit;
   const Size first = inner.extent - inner.unit * (units.count - 1);
   units.first_from = first * inner.from;
   units.first_to = first * inner.to;
   units.next_from = inner.unit * inner.from;
   units.next_to = inner.unit * inner.to;
   for (Size p = 0; p < all.planes; ++p)
      for (Size i = 0; i < outer.extent; i += outer.unit) {
         const Size at = i + outer.unit > outer.extent ? outer.extent - outer.unit : i;
         units.from = all.from + p * all.from_plane + at * outer.from;
         units.to = all.to + p * all.to_plane + at * outer.to;
         if (tall)
            transpose_tall_units(units);
         else
            transpose_wide_units(units);
      }
   return true;
}

} // namespace sofie

SOFIE_END

#endif

#endif
