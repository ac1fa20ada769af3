/// \file
/// What all kernels in assembler share: the names of members.
///
/// A kernel that is written in assembler gets a struct of arguments. It names a member where others write a number:
///
///     asm("mov %c[of_rows](%[of]), %[k]" : [k] "=&r"(k) : [of] "r"(&of), SOFIE_MEMBERS(of, DenseTiles, rows));
///
/// The compiler puts the distance of `rows` from the begin of DenseTiles in the place of %c[of_rows]. So members may be
/// added and moved. An element of an array has its own distance in front: 8+%c[of_masks](%[of]).
#ifndef SOFIE_ASSEMBLER_HXX
#define SOFIE_ASSEMBLER_HXX

#include "sofie/target.hxx"

// The distances of members, for up to 24 of them. g++ allows 30 operands of a statement in all.
// clang-format off
#define SOFIE_MEMBERS(of, type, ...) SOFIE_MEMBERS_OF(SOFIE_MEMBERS_COUNT(__VA_ARGS__))(of, type, __VA_ARGS__)
#define SOFIE_MEMBERS_OF(count) SOFIE_MEMBERS_NAMED(count)
#define SOFIE_MEMBERS_NAMED(count) SOFIE_MEMBERS_##count
#define SOFIE_MEMBERS_COUNT(...) SOFIE_MEMBERS_LAST(__VA_ARGS__, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, \
   12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define SOFIE_MEMBERS_LAST(_1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, _14, _15, _16, _17, _18, _19, \
   _20, _21, _22, _23, _24, count, ...) count
#define SOFIE_MEMBERS_1(of, T, member) [of##_##member] "i"(__builtin_offsetof(T, member))
#define SOFIE_MEMBERS_2(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_1(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_3(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_2(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_4(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_3(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_5(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_4(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_6(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_5(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_7(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_6(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_8(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_7(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_9(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_8(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_10(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_9(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_11(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_10(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_12(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_11(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_13(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_12(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_14(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_13(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_15(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_14(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_16(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_15(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_17(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_16(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_18(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_17(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_19(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_18(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_20(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_19(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_21(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_20(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_22(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_21(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_23(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_22(of, T, __VA_ARGS__)
#define SOFIE_MEMBERS_24(of, T, member, ...) SOFIE_MEMBERS_1(of, T, member), SOFIE_MEMBERS_23(of, T, __VA_ARGS__)
// clang-format on

// A number as a pack of AVX2 in memory, for instructions that have no register left for it.
#define SOFIE_EIGHT(x) {x, x, x, x, x, x, x, x}

#endif
