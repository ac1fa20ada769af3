/// \file
/// The instruction set and what differs between g++, clang and ROOT's Cling.
///
/// A compiler is told the instruction set by its own flags (-march=...). Cling compiles for generic
/// x86-64: there whoever declares the first header defines SOFIE_TARGET (the argument of
/// __attribute__((target(...)))) and SOFIE_SIMD_BYTES, and all code between SOFIE_BEGIN and
/// SOFIE_END gets it. An emitted header that somebody includes there by himself sees SOFIE_LINKED,
/// and has a Session without kernels, which are declared for this CPU when it is made
/// (rdf/native.hxx).
#ifndef SOFIE_TARGET_HXX
#define SOFIE_TARGET_HXX

// ROOT's C++ modules give Cling the standard library; including it again would need the system's
// headers, which a machine without a compiler lacks. There Cling does not even get as far as
// defining __CLING__, so whoever declares text to it may say SOFIE_CLING.
#if defined(__CLING__) && !defined(SOFIE_CLING)
#define SOFIE_CLING
#endif
#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#endif

// A header that is included by itself, in Cling or in a library that ROOT's ACLiC compiles, which
// Cling reads as well: both must see the same classes, whatever the flags of either say. Whoever
// wants the code itself says SOFIE_ENTRIES.
#if defined(__x86_64__) && (defined(__CLING__) || defined(__ACLIC__)) && !defined(SOFIE_LINKED) && \
   !defined(SOFIE_ENTRIES)
#define SOFIE_LINKED
#endif

#ifndef SOFIE_SIMD_BYTES
#if defined(__AVX512F__)
#define SOFIE_SIMD_BYTES 64
#elif defined(__AVX__)
#define SOFIE_SIMD_BYTES 32
#else
#define SOFIE_SIMD_BYTES 16
#endif
#endif

// Cling predefines nothing where it finds no headers of the system. It is clang, though; and who
// chooses a target for it knows that this is an x86.
#if defined(__clang__) || defined(SOFIE_CLING)
#define SOFIE_CLANG
#endif
#if (defined(__x86_64__) && defined(__GNUC__)) || defined(SOFIE_TARGET)
#define SOFIE_X86
#endif

// All registers for packs, of which assembler may leave nothing as it was. By these names clang knows that it has to
// clear their upper halves.
#define SOFIE_ALL_PACKS                                                                                                \
   "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", \
      "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22", "zmm23", "zmm24", "zmm25",      \
      "zmm26", "zmm27", "zmm28", "zmm29", "zmm30", "zmm31"

// Kernels with a version in assembler for AVX-512.
#undef SOFIE_AVX512_ASSEMBLER
#if defined(SOFIE_X86) && SOFIE_SIMD_BYTES == 64
#define SOFIE_AVX512_ASSEMBLER
#endif

// Kernels with a version in assembler for AVX2 and FMA, which those have who say SOFIE_TARGET and packs of 32 bytes.
#undef SOFIE_AVX2_ASSEMBLER
#if defined(SOFIE_X86) && SOFIE_SIMD_BYTES == 32 && (defined(SOFIE_TARGET) || (defined(__AVX2__) && defined(__FMA__)))
#define SOFIE_AVX2_ASSEMBLER
#endif
#define SOFIE_ALL_YMM                                                                                                  \
   "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11", "ymm12", "ymm13", \
      "ymm14", "ymm15"

#define SOFIE_PRAGMA(text) _Pragma(#text)

// A product and a sum are one rounding where a kernel says so (`multiply_add`), and nowhere else:
// every compiler gives the same bits. clang would join those of one expression; g++ joins those of a
// whole function, unless it is told -ffp-contract=off.
#ifdef SOFIE_CLANG
#define SOFIE_NOT_CONTRACTED SOFIE_PRAGMA(float_control(push)) SOFIE_PRAGMA(clang fp contract(off))
#define SOFIE_CONTRACTED SOFIE_PRAGMA(clang fp contract(on))
#else
#define SOFIE_CONTRACTED
#endif

#ifdef SOFIE_TARGET
#define SOFIE_BEGIN     \
   SOFIE_NOT_CONTRACTED \
   SOFIE_PRAGMA(clang attribute push(__attribute__((target(SOFIE_TARGET))), apply_to = function))
#define SOFIE_END SOFIE_PRAGMA(clang attribute pop) SOFIE_PRAGMA(float_control(pop))
#else
#if defined(__GNUC__) && !defined(SOFIE_CLANG)
// g++ warns that packs wider than its target's registers are passed in another way than with wider
// registers. None is passed: whatever takes or gives one is inlined.
#define SOFIE_BEGIN SOFIE_PRAGMA(GCC diagnostic push) SOFIE_PRAGMA(GCC diagnostic ignored "-Wpsabi")
#define SOFIE_END SOFIE_PRAGMA(GCC diagnostic pop)
#elif defined(SOFIE_CLANG)
#define SOFIE_BEGIN SOFIE_NOT_CONTRACTED
#define SOFIE_END SOFIE_PRAGMA(float_control(pop))
#else
#define SOFIE_BEGIN
#define SOFIE_END
#endif
#endif

// Behind infer() comes code that may know of 16 bytes of a register only. Intel's CPUs take 100 to 200 ns to keep the
// others for each change between the two, unless they are zero. Assembler leaves them as they are.
#undef SOFIE_LEAVE_PACKS
#if defined(SOFIE_X86) && SOFIE_SIMD_BYTES > 16
#define SOFIE_LEAVE_PACKS __builtin_ia32_vzeroupper()
#else
#define SOFIE_LEAVE_PACKS static_cast<void>(0)
#endif

// Small functions must be inlined: a vector in memory between two of them costs more than either.
#define SOFIE_INLINE inline __attribute__((always_inline))

// Kernels are functions of their own: an infer() with all of them inlined takes long to compile.
#define SOFIE_KERNEL __attribute__((noinline))

// What runs once for a model: the compiler should not take longer for it than it takes.
#ifdef SOFIE_CLANG
#define SOFIE_ONCE __attribute__((noinline, optnone))
#else
#define SOFIE_ONCE __attribute__((noinline, cold))
#endif

// Entry points stay out of line in Cling, which otherwise compiles them again in each caller.
#ifdef SOFIE_CLING
#define SOFIE_ENTRY __attribute__((noinline))
#else
#define SOFIE_ENTRY inline
#endif

// Before a statement: what it calls becomes part of the caller, where Cling would inline nothing. Older versions of
// clang have no such statement.
#if defined(SOFIE_CLANG) && __clang_major__ >= 15
#define SOFIE_INLINED [[clang::always_inline]]
#else
#define SOFIE_INLINED
#endif

// Unrolling is what makes code fast under Cling's simple register allocator, which spills every
// live value at the end of each basic block: long blocks make that rare.
#ifdef SOFIE_CLANG
#define SOFIE_UNROLL_ALL SOFIE_PRAGMA(clang loop unroll(full))
#define SOFIE_UNROLL(n) SOFIE_PRAGMA(clang loop unroll_count(n))
#elif defined(__GNUC__) && !defined(__CUDACC__)
#define SOFIE_UNROLL_ALL SOFIE_PRAGMA(GCC unroll 64)
#define SOFIE_UNROLL(n) SOFIE_PRAGMA(GCC unroll n)
#else
#define SOFIE_UNROLL_ALL
#define SOFIE_UNROLL(n)
#endif

#endif
