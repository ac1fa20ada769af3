/// \file
/// Windows over small planes of floats with AVX-512: sixteen planes side by side in the lanes, in assembler.
#ifndef SOFIE_KERNELS_POOLING_LANES_HXX
#define SOFIE_KERNELS_POOLING_LANES_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/convolution/channel_lanes.hxx"
#include "sofie/kernels/pooling.hxx"

SOFIE_BEGIN

namespace sofie {

#if defined(SOFIE_TRANSPOSE_ASSEMBLER) && defined(SOFIE_AVX512_ASSEMBLER)
/// Rows of results, in blocks. Distances are in bytes.
struct PoolLanes {
   const float *x;
   float *y;
   const std::int32_t *taps;      // Where each reads.
   const float *members, *shared; // How many numbers a window has along a row, and along a column.
   Size count, rows, blocks, x_row, y_row, x_block;
   Size inverse; // How much further on 1 / these numbers are.
   float neutral;
};

// clang-format off
#define SOFIE_POOL_LANES_4(each, stride) each(stride, 0) each(stride, 1) each(stride, 2) each(stride, 3)
#define SOFIE_POOL_LANES_8(each, stride)                                                                                 \
   SOFIE_POOL_LANES_4(each, stride) each(stride, 4) each(stride, 5) each(stride, 6) each(stride, 7)
#define SOFIE_POOL_LANES_14(each, stride)                                                                                \
   SOFIE_POOL_LANES_8(each, stride) each(stride, 8) each(stride, 9) each(stride, 10) each(stride, 11) each(stride, 12)   \
   each(stride, 13)
#define SOFIE_POOL_LANES_START(stride, a) "vmovaps %%zmm31, %%zmm" #a "\n\t"
// NaN stays, as a number is no larger: where there is none yet, it is the larger one or the other, which may be NaN.
#define SOFIE_POOL_LANES_MAX(stride, a)                                \
   "vcmpps $7, %%zmm" #a ", %%zmm" #a ", %%k2\n\t"                     \
   "vmaxps 64*" #stride "*" #a "(%[from]), %%zmm" #a ", %%zmm" #a "%{%%k2%}\n\t"
#define SOFIE_POOL_LANES_NUMBER(stride, a) "vmaxps 64*" #stride "*" #a "(%[from]), %%zmm" #a ", %%zmm" #a "\n\t"
#define SOFIE_POOL_LANES_SUM(stride, a) "vaddps 64*" #stride "*" #a "(%[from]), %%zmm" #a ", %%zmm" #a "\n\t"
// A quotient by its divisor's inverse, and what that has left over times the inverse, unless it is infinite.
#define SOFIE_POOL_LANES_MEAN(stride, a)                               \
   "vmulps 4*" #a "(%[from])%{1to16%}, %%zmm30, %%zmm29\n\t"           \
   "vmulps 4*" #a "(%[from],%[at])%{1to16%}, %%zmm28, %%zmm27\n\t"     \
   "vmulps %%zmm27, %%zmm" #a ", %%zmm26\n\t"                          \
   "vfnmadd231ps %%zmm26, %%zmm29, %%zmm" #a "\n\t"                    \
   "vcmpps $7, %%zmm" #a ", %%zmm" #a ", %%k2\n\t"                     \
   "vfmadd231ps %%zmm" #a ", %%zmm27, %%zmm26%{%%k2%}\n\t"             \
   "vmovaps %%zmm26, %%zmm" #a "\n\t"
#define SOFIE_POOL_LANES_STORE(stride, a) "vmovups %%zmm" #a ", 64*" #a "(%[to])\n\t"
#define SOFIE_POOL_LANES(columns, stride, rule, row_begin, mean)                                            \
   asm volatile(                                                                                              \
      "vbroadcastss %c[of_neutral](%[of]), %%zmm31\n"                                                         \
      "1:\n\t"                                                                                                \
      "mov %c[of_x](%[of]), %[x]\n\t"                                                                         \
      "mov %c[of_y](%[of]), %[to]\n\t"                                                                        \
      "mov %c[of_members](%[of]), %[members]\n\t"                                                             \
      row_begin                                                                                               \
      "mov %c[of_blocks](%[of]), %[block]\n"                                                                  \
      "2:\n\t"                                                                                                \
      SOFIE_POOL_LANES_##columns(SOFIE_POOL_LANES_START, stride)                                              \
      "mov %c[of_taps](%[of]), %[at]\n\t"                                                                     \
      "mov %c[of_count](%[of]), %[k]\n"                                                                       \
      "3:\n\t"                                                                                                \
      "movslq (%[at]), %[from]\n\t"                                                                           \
      "add %[x], %[from]\n\t"                                                                                 \
      "add $4, %[at]\n\t"                                                                                     \
      SOFIE_POOL_LANES_##columns(rule, stride)                                                                \
      "dec %[k]\n\t"                                                                                          \
      "jnz 3b\n\t"                                                                                            \
      mean                                                                                                    \
      SOFIE_POOL_LANES_##columns(SOFIE_POOL_LANES_STORE, stride)                                              \
      "add $4*" #columns ", %[members]\n\t"                                                                   \
      "add $64*" #columns ", %[to]\n\t"                                                                       \
      "add %c[of_x_block](%[of]), %[x]\n\t"                                                                   \
      "dec %[block]\n\t"                                                                                      \
      "jnz 2b\n\t"                                                                                            \
      "mov %c[of_x_row](%[of]), %[at]\n\t"                                                                    \
      "add %[at], %c[of_x](%[of])\n\t"                                                                        \
      "mov %c[of_y_row](%[of]), %[at]\n\t"                                                                    \
      "add %[at], %c[of_y](%[of])\n\t"                                                                        \
      "addq $4, %c[of_shared](%[of])\n\t"                                                                     \
      "decq %c[of_rows](%[of])\n\t"                                                                           \
      "jnz 1b\n\t"                                                                                            \
      : [x] "=&r"(x), [to] "=&r"(to), [from] "=&r"(from), [at] "=&r"(at), [k] "=&r"(k), [block] "=&r"(block), \
        [members] "=&r"(members)                                                                              \
      : [of] "r"(&of),                                                                                        \
        SOFIE_MEMBERS(of, PoolLanes, x, y, taps, members, shared, count, rows, blocks, x_row, y_row, x_block, \
           inverse, neutral)                                                                                  \
      : "memory", "cc", "k2", SOFIE_ALL_PACKS)
#define SOFIE_POOL_LANES_OF_MAX(columns, stride) SOFIE_POOL_LANES(columns, stride, SOFIE_POOL_LANES_MAX, "", "")
#define SOFIE_POOL_LANES_OF_NUMBERS(columns, stride) SOFIE_POOL_LANES(columns, stride, SOFIE_POOL_LANES_NUMBER, "", "")
#define SOFIE_POOL_LANES_OF_MEAN(columns, stride)                              \
   SOFIE_POOL_LANES(columns, stride, SOFIE_POOL_LANES_SUM,                     \
      "mov %c[of_shared](%[of]), %[at]\n\tvbroadcastss (%[at]), %%zmm30\n\t"   \
      "add %c[of_inverse](%[of]), %[at]\n\tvbroadcastss (%[at]), %%zmm28\n\t", \
      "mov %[members], %[from]\n\tmov %c[of_inverse](%[of]), %[at]\n\t"        \
      SOFIE_POOL_LANES_##columns(SOFIE_POOL_LANES_MEAN, stride))
// clang-format on

/// What is computed of each window: the largest number, where NaN may be or where it is not, or the mean.
enum class PoolOf { any, numbers, mean };

#define SOFIE_POOL_LANES_BY(columns, stride)        \
   if constexpr (Of == PoolOf::any)                 \
      SOFIE_POOL_LANES_OF_MAX(columns, stride);     \
   else if constexpr (Of == PoolOf::numbers)        \
      SOFIE_POOL_LANES_OF_NUMBERS(columns, stride); \
   else                                             \
      SOFIE_POOL_LANES_OF_MEAN(columns, stride)

/// All rows, for `Columns` columns at a time, perhaps more than a row has.
template <PoolOf Of, int Columns, int Stride>
SOFIE_KERNEL void pool_lanes_rows(PoolLanes &of)
{
   const float *x, *from, *members;
   const std::int32_t *at;
   float *to;
   Size k, block;
   if constexpr (Columns == 14 && Stride == 2) {
      SOFIE_POOL_LANES_BY(14, 2);
   } else if constexpr (Columns == 14) {
      SOFIE_POOL_LANES_BY(14, 1);
   } else if constexpr (Columns == 8 && Stride == 2) {
      SOFIE_POOL_LANES_BY(8, 2);
   } else if constexpr (Columns == 8) {
      SOFIE_POOL_LANES_BY(8, 1);
   } else if constexpr (Stride == 2) {
      SOFIE_POOL_LANES_BY(4, 2);
   } else {
      SOFIE_POOL_LANES_BY(4, 1);
   }
}

/// Whether all of so many packs are finite.
SOFIE_KERNEL inline bool all_lanes_finite(const float *x, Size count)
{
   Size odd;
   asm volatile(SOFIE_DENSE_ZERO(0) SOFIE_DENSE_ZERO(1) SOFIE_DENSE_ZERO(2) "shr %[count]\n\t"
                                                                            "jnc 1f\n\t"
                                                                            "vfmadd231ps (%[x]), %%zmm2, %%zmm0\n\t"
                                                                            "add $64, %[x]\n"
                                                                            "1:\n\t"
                                                                            "test %[count], %[count]\n\t"
                                                                            "jz 3f\n"
                                                                            "2:\n\t"
                                                                            "vfmadd231ps (%[x]), %%zmm2, %%zmm0\n\t"
                                                                            "vfmadd231ps 64(%[x]), %%zmm2, %%zmm1\n\t"
                                                                            "add $128, %[x]\n\t"
                                                                            "dec %[count]\n\t"
                                                                            "jnz 2b\n"
                                                                            "3:\n\t"
                                                                            "vcmpps $3, %%zmm1, %%zmm0, %%k1\n\t"
                                                                            "kmovw %%k1, %k[odd]\n\t"
                : [x] "+&r"(x), [count] "+&r"(count), [odd] "=&r"(odd)
                :
                : "memory", "cc", "k1", "xmm0", "xmm1", "xmm2");
   return odd == 0;
}

/// A multiple of 16 that is not below `count`.
constexpr Size pool_lanes_up(Size count)
{
   return (count + 15) / 16 * 16;
}

/// Where each tap reads, and how many numbers the windows of each column and row have, with their inverses.
SOFIE_KERNEL inline void pool_lanes_table(std::int32_t *taps, float *members, float *shared, Size inverse,
                                          const PoolPlane &plane, Size pitch, Size columns, bool pads)
{
   const PoolAxis &down = plane.axis[0], &along = plane.axis[1];
   for (Size h = 0; h < down.kernel; ++h)
      for (Size w = 0; w < along.kernel; ++w)
         *taps++ = static_cast<std::int32_t>((h * down.dilation * pitch + w * along.dilation) * 64);
   for (Size j = 0; j < columns; ++j) {
      const Size count = j < along.count ? along.members(j, pads) : 1;
      members[j] = static_cast<float>(count > 0 ? count : 1);
      members[inverse + j] = 1 / members[j];
   }
   for (Size j = 0; j < down.count; ++j) {
      const Size count = down.members(j, pads);
      shared[j] = static_cast<float>(count > 0 ? count : 1);
      shared[inverse + j] = 1 / shared[j];
   }
}

template <bool Largest, int Columns, int Stride>
SOFIE_KERNEL void pool_planes_by_lanes(float *y, float *scratch, std::int32_t *taps, const float *x, Size planes,
                                       const PoolPlane &plane, bool pads)
{
   constexpr Size n = 16, place = n * Size{sizeof(float)};
   const PoolAxis &down = plane.axis[0], &along = plane.axis[1];
   const float none = Largest ? -__builtin_inff() : 0.0f;
   const Size pitch = lanes_pitch(along.count, Stride, along.kernel, along.dilation, along.begin, along.size);
   const Size high = (down.count - 1) * down.stride + (down.kernel - 1) * down.dilation + 1;
   const Size blocks = (along.count + Columns - 1) / Columns;
   const Size wide = pool_lanes_up(blocks * Columns), inverse = wide + pool_lanes_up(down.count);
   float *const shared = scratch + wide, *const turned = scratch + 2 * inverse;
   float *const image = turned + pool_lanes_up(plane.size) * n;
   float *const results = image + (high * pitch + (Columns * Stride < n ? n : Columns * Stride)) * n;
   pool_lanes_table(taps, scratch, shared, inverse, plane, pitch, blocks * Columns, pads);
   Size in[n], out[n];
   for (Size p = 0; p < planes; p += n) {
      const Size some = planes - p < n ? planes - p : n;
      lanes_apart(in, plane.size, some);
      lanes_apart(out, plane.count, some);
      fill_lanes(image, turned, x + p * plane.size, in, {down.size, along.size, along.begin, pitch}, -down.begin,
                 high - down.begin, none);
      // What a block reads behind the last row.
      fill_line_of_lanes(image + high * pitch * n, image, Columns * Stride, 0, 0, none);
      PoolLanes of{image,
                   results,
                   taps,
                   scratch,
                   shared,
                   down.kernel * along.kernel,
                   down.count,
                   blocks,
                   down.stride * pitch * place,
                   along.count * place,
                   Columns * Stride * place,
                   inverse * Size{sizeof(float)},
                   none};
      if constexpr (!Largest)
         pool_lanes_rows<PoolOf::mean, Columns, Stride>(of);
      else if (some == n && all_lanes_finite(x + p * plane.size, plane.size))
         pool_lanes_rows<PoolOf::numbers, Columns, Stride>(of);
      else
         pool_lanes_rows<PoolOf::any, Columns, Stride>(of);
      places_to_rows(y + p * plane.count, results, out, plane.count);
   }
}
#endif

/// The same as `max_pool`, for two axes of space.
template <int Columns, int Stride, class Y, class Row, class Table, class X, int N>
SOFIE_INLINE void max_pool_lanes(Y y, Row row, Table table, X x, const Sizes<N> &numbers)
{
#if defined(SOFIE_TRANSPOSE_ASSEMBLER) && defined(SOFIE_AVX512_ASSEMBLER)
   const PoolPlane plane = pool_plane(numbers);
   if (plane.count > 0 && !pool_items(y.data(), x.data(), x.template extent<0>(), plane))
      pool_planes_by_lanes<true, Columns, Stride>(y.data(), row.data(), table.data(), x.data(), x.template extent<0>(),
                                                  plane, false);
#else
   max_pool(y, row, table, x, numbers);
#endif
}

/// The same as `average_pool`, for two axes of space.
template <bool Pads, int Columns, int Stride, class Y, class Row, class Members, class Table, class X, int N>
SOFIE_INLINE void average_pool_lanes(Y y, Row row, [[maybe_unused]] Members members, Table table, X x,
                                     const Sizes<N> &numbers)
{
#if defined(SOFIE_TRANSPOSE_ASSEMBLER) && defined(SOFIE_AVX512_ASSEMBLER)
   const PoolPlane plane = pool_plane(numbers);
   if (plane.count > 0)
      pool_planes_by_lanes<false, Columns, Stride>(y.data(), row.data(), table.data(), x.data(), x.template extent<0>(),
                                                   plane, Pads);
#else
   average_pool<Pads>(y, row, members, table, x, numbers);
#endif
}

} // namespace sofie

SOFIE_END

#endif
