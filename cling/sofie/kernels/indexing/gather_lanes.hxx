/// \file
/// Indices that are data: whether they exist, and elements at them, several at a time.
#ifndef SOFIE_KERNELS_INDEXING_GATHER_LANES_HXX
#define SOFIE_KERNELS_INDEXING_GATHER_LANES_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/layout.hxx"

SOFIE_BEGIN

namespace sofie {

[[noreturn]] inline void no_such_index(Size index, Size size)
{
   throw std::out_of_range("index " + std::to_string(index) + " does not exist among " + std::to_string(size) +
                           " elements");
}

/// An index counted from the front; negative ones count from the end.
SOFIE_INLINE Size checked_index(Size index, Size size)
{
   if (index < -size || index >= size)
      no_such_index(index, size);
   return index < 0 ? index + size : index;
}

/// Throws for the first index that does not exist; packs of them are asked together.
template <class I>
SOFIE_KERNEL void check_indices(const I *indices, Size count, Size size)
{
   using U = std::make_unsigned_t<I>;
   using V = Pack<U>;
   constexpr Size w = lanes<U>, together = 4 * w;
   Size i = 0;
   // So that twice the size is a number of this type.
   if (size <= static_cast<Size>(static_cast<U>(~U(0)) / 4)) {
      const V shift = splat<V>(static_cast<U>(size)), end = shift + shift;
      for (; i + together <= count; i += together) {
         MaskOf<V> wrong{};
   SOFIE_UNROLL_ALL
         for (Size k = 0; k < together; k += w)
            wrong |= bits<V>(load<w>(indices + i + k)) + shift >= end;
         if (fold_lanes<AnyOfLanes>(wrong))
            break;
      }
   }
   for (; i < count; ++i)
      checked_index(static_cast<Size>(indices[i]), size);
}

/// An index that exists, counted from the front.
SOFIE_INLINE Size counted_index(Size index, Size size)
{
   return index + (size & -static_cast<Size>(index < 0));
}

#ifdef SOFIE_TRANSPOSE_ASSEMBLER

/// Elements of x whose indices along one axis stand side by side, as do those of y: first those of all axes behind it,
/// then the next index. All distances are in bytes.
struct GatheredBlock {
   char *to;
   const char *from;
   const void *indices;
   Size count, size;
   /// From one index to the next one, behind the last place of the axes behind, and from one lane's place to its next.
   Size stride, period, step;
   /// Where each lane begins.
   Size places[8];
};

// clang-format off
#define SOFIE_GATHER_LONGS "vmovdqu64 (%[indices]), %%zmm0%{%%k1%}%{z%}\n\tadd $64, %[indices]\n\t"
#define SOFIE_GATHER_INTS "vpmovsxdq (%[indices]), %%zmm0%{%%k1%}%{z%}\n\tadd $32, %[indices]\n\t"
#define SOFIE_GATHER_4 "vgatherqps (%[from],%%zmm0), %%ymm1%{%%k3%}\n\tvmovups %%ymm1, (%[to])%{%%k1%}\n\tadd $32, %[to]\n\t"
#define SOFIE_GATHER_8 "vgatherqpd (%[from],%%zmm0), %%zmm1%{%%k3%}\n\tvmovupd %%zmm1, (%[to])%{%%k1%}\n\tadd $64, %[to]\n\t"
// Eight elements (or as many as k1 says): those whose indices do not exist stay away, and are noted in k4.
#define SOFIE_GATHER_PACK(indices, elements)               \
   indices                                                 \
   "vpmovq2m %%zmm0, %%k2\n\t"                             \
   "vpaddq %%zmm2, %%zmm0, %%zmm0%{%%k2%}\n\t"             \
   "vpcmpltuq %%zmm2, %%zmm0, %%k3%{%%k1%}\n\t"            \
   "kxorw %%k1, %%k3, %%k2\n\t"                            \
   "korw %%k2, %%k4, %%k4\n\t"                             \
   "vpmuludq %%zmm3, %%zmm0, %%zmm0\n\t"                   \
   "vpaddq %%zmm6, %%zmm0, %%zmm0\n\t"                     \
   "vpxord %%zmm1, %%zmm1, %%zmm1\n\t"                     \
   "vpaddq %%zmm5, %%zmm6, %%zmm6\n\t"                     \
   "vpcmpnltuq %%zmm4, %%zmm6, %%k2\n\t"                   \
   "vpsubq %%zmm4, %%zmm6, %%zmm6%{%%k2%}\n\t"             \
   elements
#define SOFIE_GATHER_BLOCK(indices_of, elements)                                                                 \
   asm volatile("vpbroadcastq %c[of_size](%[of]), %%zmm2\n\t"                                                    \
                "vpbroadcastq %c[of_stride](%[of]), %%zmm3\n\t"                                                  \
                "vpbroadcastq %c[of_period](%[of]), %%zmm4\n\t"                                                  \
                "vpbroadcastq %c[of_step](%[of]), %%zmm5\n\t"                                                    \
                "vmovdqu64 %c[of_places](%[of]), %%zmm6\n\t"                                                     \
                "kxorw %%k4, %%k4, %%k4\n\t"                                                                     \
                "mov $255, %k[wrong]\n\t"                                                                        \
                "kmovw %k[wrong], %%k1\n\t"                                                                      \
                "sub $8, %[left]\n\t"                                                                            \
                "jl 2f\n"                                                                                        \
                "1:\n\t"                                                                                         \
                SOFIE_GATHER_PACK(indices_of, elements)                                                          \
                "sub $8, %[left]\n\t"                                                                            \
                "jge 1b\n"                                                                                       \
                "2:\n\t"                                                                                         \
                "add $8, %[left]\n\t"                                                                            \
                "jz 3f\n\t"                                                                                      \
                "bzhi %k[left], %k[wrong], %k[wrong]\n\t"                                                        \
                "kmovw %k[wrong], %%k1\n\t"                                                                      \
                SOFIE_GATHER_PACK(indices_of, elements)                                                          \
                "3:\n\t"                                                                                         \
                "kmovw %%k4, %k[wrong]\n\t"                                                                      \
                : [to] "+&r"(to), [indices] "+&r"(indices), [left] "+&r"(left), [wrong] "=&r"(wrong)             \
                : [of] "r"(&block),                                                                              \
                  SOFIE_MEMBERS(of, GatheredBlock, size, stride, period, step, places),                          \
                  [from] "r"(block.from)                                                                         \
                : "memory", "cc", "k1", "k2", "k3", "k4", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6")
// clang-format on

/// Whether all indices exist.
template <int Bytes, int IndexBytes>
SOFIE_KERNEL bool gather_block(const GatheredBlock &block)
{
   char *to = block.to;
   const void *indices = block.indices;
   Size left = block.count, wrong;
   if constexpr (Bytes == 4 && IndexBytes == 4)
      SOFIE_GATHER_BLOCK(SOFIE_GATHER_INTS, SOFIE_GATHER_4);
   else if constexpr (Bytes == 4)
      SOFIE_GATHER_BLOCK(SOFIE_GATHER_LONGS, SOFIE_GATHER_4);
   else if constexpr (IndexBytes == 4)
      SOFIE_GATHER_BLOCK(SOFIE_GATHER_INTS, SOFIE_GATHER_8);
   else
      SOFIE_GATHER_BLOCK(SOFIE_GATHER_LONGS, SOFIE_GATHER_8);
   return wrong == 0;
}

/// y[i, j, ...] = x[i, ..., indices[i, j, ...], ...], if the axes behind `axis` are those of x, and no number is too
/// large for the lanes; whether that is so.
template <int Bytes, class I>
SOFIE_KERNEL bool gather_blocks(char *to, const char *from, const I *indices, const Size *x, const Size *counts, int rank,
                                Size axis)
{
   constexpr Size side = 8, most = Size(1) << 31;
   Size inner = 1;
   for (int i = static_cast<int>(axis) + 1; i < rank; ++i) {
      if (counts[i] != x[i])
         return false;
      inner *= x[i];
   }
   if (x[axis] >= most || inner * Bytes >= most)
      return false;
   GatheredBlock block{to,     from,          indices,       counts[axis] * inner,
                       x[axis], inner * Bytes, inner * Bytes, (inner < side ? side % inner : side) * Bytes,
                       {}};
   for (Size lane = 0; lane < side; ++lane)
      block.places[lane] = lane % inner * Bytes;
   // What is before the axis.
   MoveAxes outer;
   Size step = x[axis] * inner * Bytes, dense = block.count;
   Size to_steps[MoveAxes::most], from_steps[MoveAxes::most];
   for (Size i = axis; i-- > 0;) {
      to_steps[i] = dense;
      from_steps[i] = step;
      dense *= counts[i];
      step *= x[i];
   }
   for (Size i = 0; i < axis; ++i)
      outer.add(MoveAxis{counts[i], to_steps[i], from_steps[i]});
   MovePosition here;
   do {
      block.to = to + here.to * Bytes;
      block.from = from + here.from;
      block.indices = indices + here.to;
      if (!gather_block<Bytes, sizeof(I)>(block))
         check_indices(indices + here.to, block.count, block.size);
   } while (here.step(outer));
   return true;
}

#endif

} // namespace sofie

SOFIE_END

#endif
