/// \file
/// Blocks whose rows become columns, a pack of columns at a time, with what happens to results on the way.
#ifndef SOFIE_KERNELS_TRANSPOSE_LANES_TRANSPOSE_HXX
#define SOFIE_KERNELS_TRANSPOSE_LANES_TRANSPOSE_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense/tile.hxx"

#ifdef SOFIE_TILE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// to[r * stride + j] = max(from[j * pitch + r] + bias[r] + added[r * stride + j], floor) for `quads` * 4
/// numbers r and those of a pack of columns j of which the mask has a bit; there may be no bias and nothing
/// added. Strides and pitches are in bytes. As many rows of `from` are read as a pack has lanes.
struct LanesTranspose {
   const float *from;
   float *to;
   const float *bias, *added;
   Size pitch, stride, quads, mask;
   float floor;
};

// clang-format off
// Four numbers of each of some rows, four rows apart. Of columns that do not exist, which may be denormal numbers, come
// zeros.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_TURN_BEGIN \
   "kmovw %c[own_mask](%[stride3]), %%k1\n\tvbroadcastss %c[own_floor](%[stride3]), %%zmm31\n\t"
#define SOFIE_TURN_FLOOR "%%zmm31"
#define SOFIE_TURN_GATHER(place, a)                                       \
   "vmovups (%[from0]" place "), %%xmm" #a "\n\t"                         \
   "vinsertf32x4 $1, (%[from1]" place "), %%zmm" #a ", %%zmm" #a "\n\t"   \
   "vinsertf32x4 $2, (%[from2]" place "), %%zmm" #a ", %%zmm" #a "\n\t"   \
   "vinsertf32x4 $3, (%[from3]" place "), %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_TURN_PAIRS(some, name, a, b, c) name " %%zmm" #a ", %%zmm" #b ", %%zmm" #c "%{%%k1%}%{z%}\n\t"
#define SOFIE_TURN_PLUS(number, a) "vaddps " #number "*4(%[bias])%{1to16%}, %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_TURN_REGISTERS "k1", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm31"
#else
#define SOFIE_TURN_BEGIN                                                                                           \
   "vbroadcastss %c[own_floor](%[stride3]), %%ymm15\n\t"                                                           \
   "vpbroadcastd %c[own_mask](%[stride3]), %%ymm14\n\t"                                                            \
   "vpand (%[from3]), %%ymm14, %%ymm14\n\tvpcmpeqd (%[from3]), %%ymm14, %%ymm14\n\t"
#define SOFIE_TURN_FLOOR "%%ymm15"
#define SOFIE_TURN_GATHER(place, a)                                       \
   "vmovups (%[from0]" place "), %%xmm" #a "\n\t"                         \
   "vinsertf128 $1, (%[from1]" place "), %%ymm" #a ", %%ymm" #a "\n\t"
#define SOFIE_TURN_PAIRS(some, name, a, b, c)                                                                      \
   name " %%ymm" #a ", %%ymm" #b ", %%ymm" #c "\n\t" SOFIE_TURN_IF_##some("vandps %%ymm14, %%ymm" #c ", %%ymm" #c "\n\t")
#define SOFIE_TURN_IF_WHOLE(text)
#define SOFIE_TURN_IF_SOME(text) text
#define SOFIE_TURN_PLUS(number, a) "vbroadcastss " #number "*4(%[bias]), %%ymm13\n\tvaddps %%ymm13, %%ymm" #a ", %%ymm" #a "\n\t"
#define SOFIE_TURN_REGISTERS SOFIE_ALL_YMM
#endif
#define SOFIE_TURN_ADD_WHOLE(place, a) "vaddps (%[added]" place "), " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_TURN_ADD_SOME(place, a) SOFIE_PACK_ADD_SOME("(%[added]" place ")", SOFIE_PACK(a))
#define SOFIE_TURN_STORE_WHOLE(place, a) "vmovups " SOFIE_PACK(a) ", (%[to]" place ")\n\t"
#define SOFIE_TURN_STORE_SOME(place, a) SOFIE_PACK_STORE_SOME(SOFIE_PACK(a), "(%[to]" place ")")
#define SOFIE_TURN_RESULT(some, place, a) \
   "vmaxps " SOFIE_PACK(a) ", " SOFIE_TURN_FLOOR ", " SOFIE_PACK(a) "\n\t" SOFIE_TURN_STORE_##some(place, a)
#define SOFIE_TURN_TWO(name, a, b, c) name " " SOFIE_PACK(a) ", " SOFIE_PACK(b) ", " SOFIE_PACK(c) "\n\t"

#define SOFIE_TURN(some)                                                                                           \
   asm volatile(                                                                                                   \
      SOFIE_TURN_BEGIN                                                                                             \
      "lea (%[stride],%[stride],2), %[stride3]\n\t"                                                                \
      ".p2align 5\n"                                                                                               \
      "1:\n\t"                                                                                                     \
      SOFIE_TURN_GATHER("", 0)                                                                                     \
      SOFIE_TURN_GATHER(",%[pitch]", 1)                                                                            \
      SOFIE_TURN_GATHER(",%[pitch],2", 2)                                                                          \
      SOFIE_TURN_GATHER(",%[pitch3]", 3)                                                                           \
      SOFIE_TURN_TWO("vunpcklps", 1, 0, 4) SOFIE_TURN_TWO("vunpckhps", 1, 0, 5)                                    \
      SOFIE_TURN_TWO("vunpcklps", 3, 2, 6) SOFIE_TURN_TWO("vunpckhps", 3, 2, 7)                                    \
      SOFIE_TURN_PAIRS(some, "vunpcklpd", 6, 4, 0) SOFIE_TURN_PAIRS(some, "vunpckhpd", 6, 4, 1)                    \
      SOFIE_TURN_PAIRS(some, "vunpcklpd", 7, 5, 2) SOFIE_TURN_PAIRS(some, "vunpckhpd", 7, 5, 3)                    \
      "test %[bias], %[bias]\n\t"                                                                                  \
      "jz 2f\n\t"                                                                                                  \
      SOFIE_TURN_PLUS(0, 0) SOFIE_TURN_PLUS(1, 1) SOFIE_TURN_PLUS(2, 2) SOFIE_TURN_PLUS(3, 3)                      \
      "add $16, %[bias]\n\t"                                                                                       \
      "2:\n\t"                                                                                                     \
      "test %[added], %[added]\n\t"                                                                                \
      "jz 3f\n\t"                                                                                                  \
      SOFIE_TURN_ADD_##some("", 0) SOFIE_TURN_ADD_##some(",%[stride]", 1)                                          \
      SOFIE_TURN_ADD_##some(",%[stride],2", 2) SOFIE_TURN_ADD_##some(",%[stride3]", 3)                             \
      "lea (%[added],%[stride],4), %[added]\n\t"                                                                   \
      "3:\n\t"                                                                                                     \
      SOFIE_TURN_RESULT(some, "", 0) SOFIE_TURN_RESULT(some, ",%[stride]", 1)                                      \
      SOFIE_TURN_RESULT(some, ",%[stride],2", 2) SOFIE_TURN_RESULT(some, ",%[stride3]", 3)                         \
      "lea (%[to],%[stride],4), %[to]\n\t"                                                                         \
      "add $16, %[from0]\n\t"                                                                                      \
      "add $16, %[from1]\n\t"                                                                                      \
      "add $16, %[from2]\n\t"                                                                                      \
      "add $16, %[from3]\n\t"                                                                                      \
      "dec %[quads]\n\t"                                                                                           \
      "jnz 1b\n\t"                                                                                                 \
      : [from0] "+&r"(from0), [from1] "+&r"(from1), [from2] "+&r"(from2), [from3] "+&r"(from3), [to] "+&r"(to),    \
        [bias] "+&r"(bias), [added] "+&r"(added), [quads] "+&r"(quads), [stride3] "+&r"(own)                       \
      : SOFIE_MEMBERS(own, LanesTranspose, mask, floor), [pitch] "r"(turn.pitch), [pitch3] "r"(3 * turn.pitch),    \
        [stride] "r"(turn.stride)                                                                                  \
      : "memory", "cc", SOFIE_TURN_REGISTERS)
// clang-format on

SOFIE_KERNEL inline void lanes_transpose(const LanesTranspose &turn)
{
   const float *from0 = turn.from, *bias = turn.bias, *added = turn.added;
   const char *bytes = reinterpret_cast<const char *>(from0);
   const float *from1 = reinterpret_cast<const float *>(bytes + 4 * turn.pitch);
   float *to = turn.to;
   Size quads = turn.quads;
   const LanesTranspose *own = &turn;
   if (quads <= 0)
      return;
#ifdef SOFIE_AVX512_ASSEMBLER
   const float *from2 = reinterpret_cast<const float *>(bytes + 8 * turn.pitch);
   const float *from3 = reinterpret_cast<const float *>(bytes + 12 * turn.pitch);
   SOFIE_TURN(SOME);
#else
   // Registers of AVX-512's other rows; in one of them is the bit of each lane.
   static const std::int32_t lane_bits[] = {1, 2, 4, 8, 16, 32, 64, 128};
   const float *from2 = from1, *from3 = reinterpret_cast<const float *>(lane_bits);
   if (turn.mask == 0xff)
      SOFIE_TURN(WHOLE);
   else
      SOFIE_TURN(SOME);
#endif
}

} // namespace sofie

SOFIE_END

#endif

#endif
