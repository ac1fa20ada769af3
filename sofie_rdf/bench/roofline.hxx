/// \file
/// What this CPU can do at best: multiplications with addition, and reading from a cache.
///
/// The loops are written in assembler: Cling's register allocator would store every sum at the end of each round,
/// and that would be measured instead.
#ifndef SOFIE_BENCH_ROOFLINE_HXX
#define SOFIE_BENCH_ROOFLINE_HXX

#include "sofie/target.hxx"

// ROOT's C++ modules give Cling the standard library; sofie/target.hxx says why SOFIE_CLING.
#ifndef SOFIE_CLING
#include <chrono>
#endif

// What is done with each of 14 registers: enough that no operation waits for the one before it.
// clang-format off
#define SOFIE_BENCH_14(op) \
   op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13)
#define SOFIE_BENCH_8(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
// clang-format on

#if defined(__x86_64__)
#define SOFIE_BENCH_CLOBBERED                                                                                          \
   "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
      "xmm14", "xmm15", "cc", "memory"
#if SOFIE_SIMD_BYTES == 64
#define SOFIE_BENCH_CLEAR(r) "vpxord %%zmm" #r ", %%zmm" #r ", %%zmm" #r "\n\t"
#define SOFIE_BENCH_COMPUTE(r) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #r "\n\t"
#define SOFIE_BENCH_READ(r) "vmovaps " #r "*64(%[at]), %%zmm" #r "\n\t"
#elif SOFIE_SIMD_BYTES == 32
#define SOFIE_BENCH_CLEAR(r) "vxorps %%ymm" #r ", %%ymm" #r ", %%ymm" #r "\n\t"
#define SOFIE_BENCH_COMPUTE(r) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #r "\n\t"
#define SOFIE_BENCH_READ(r) "vmovaps " #r "*32(%[at]), %%ymm" #r "\n\t"
#else
// Without a fused operation, half of the registers are multiplied and half are added to.
#define SOFIE_BENCH_CLEAR(r) "xorps %%xmm" #r ", %%xmm" #r "\n\t"
#define SOFIE_BENCH_COMPUTE(r)      \
   ".if " #r " & 1\n\t"             \
   "mulps %%xmm14, %%xmm" #r "\n\t" \
   ".else\n\t"                      \
   "addps %%xmm15, %%xmm" #r "\n\t" \
   ".endif\n\t"
#define SOFIE_BENCH_READ(r) "movaps " #r "*16(%[at]), %%xmm" #r "\n\t"
#endif
#define SOFIE_BENCH_NEXT "dec %[rounds]\n\tjnz 1b\n\t"
#define SOFIE_BENCH_ADVANCE "add %[step], %[at]\n\tdec %[rounds]\n\tjnz 1b\n\t"
#elif defined(__aarch64__)
#define SOFIE_BENCH_CLOBBERED \
   "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "cc", "memory"
#define SOFIE_BENCH_CLEAR(r) "movi v" #r ".4s, #0\n\t"
#define SOFIE_BENCH_COMPUTE(r) "fmla v" #r ".4s, v14.4s, v15.4s\n\t"
#define SOFIE_BENCH_READ(r) "ldr q" #r ", [%[at], #" #r "*16]\n\t"
#define SOFIE_BENCH_NEXT "subs %[rounds], %[rounds], #1\n\tb.ne 1b\n\t"
#define SOFIE_BENCH_ADVANCE "add %[at], %[at], %[step]\n\tsubs %[rounds], %[rounds], #1\n\tb.ne 1b\n\t"
#endif

SOFIE_BEGIN

namespace sofie {
namespace bench {

struct Roofline {
   static constexpr std::size_t width = SOFIE_SIMD_BYTES / sizeof(float);
#if defined(__x86_64__) && SOFIE_SIMD_BYTES < 32
   static constexpr std::size_t flops_each = 1;
#else
   static constexpr std::size_t flops_each = 2;
#endif
   static constexpr std::size_t flops_per_round = 14 * width * flops_each;
   static constexpr std::size_t bytes_per_round = 8 * SOFIE_SIMD_BYTES;

   /// How long `rounds` rounds of `flops_per_round` float32 operations take.
   SOFIE_KERNEL static double compute(std::size_t rounds)
   {
      using Clock = std::chrono::steady_clock;
      const Clock::time_point start = Clock::now();
      asm volatile(SOFIE_BENCH_14(SOFIE_BENCH_CLEAR) SOFIE_BENCH_CLEAR(14) SOFIE_BENCH_CLEAR(15) //
                   ".p2align 6\n1:\n\t" SOFIE_BENCH_14(SOFIE_BENCH_COMPUTE) SOFIE_BENCH_NEXT
                   : [rounds] "+r"(rounds)
                   :
                   : SOFIE_BENCH_CLOBBERED);
      return std::chrono::duration<double>(Clock::now() - start).count();
   }

   /// How long it takes to read `bytes` (a multiple of `bytes_per_round`) so many times.
   SOFIE_KERNEL static double read(const void *memory, std::size_t bytes, std::size_t times)
   {
      using Clock = std::chrono::steady_clock;
      const Clock::time_point start = Clock::now();
      for (std::size_t i = 0; i < times; ++i) {
         const void *at = memory;
         std::size_t rounds = bytes / bytes_per_round;
         asm volatile(".p2align 6\n1:\n\t" SOFIE_BENCH_8(SOFIE_BENCH_READ) SOFIE_BENCH_ADVANCE
                      : [rounds] "+r"(rounds), [at] "+r"(at)
                      : [step] "r"(bytes_per_round)
                      : SOFIE_BENCH_CLOBBERED);
      }
      return std::chrono::duration<double>(Clock::now() - start).count();
   }

   static std::uintptr_t compute_address() { return reinterpret_cast<std::uintptr_t>(&compute); }
   static std::uintptr_t read_address() { return reinterpret_cast<std::uintptr_t>(&read); }
};

} // namespace bench
} // namespace sofie

SOFIE_END

#endif
