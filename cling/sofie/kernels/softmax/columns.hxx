/// \file
/// Softmax along columns of floats with AVX-512, in assembler: up to sixteen columns in the lanes of a register, and
/// several rows of few columns.
#ifndef SOFIE_KERNELS_SOFTMAX_COLUMNS_HXX
#define SOFIE_KERNELS_SOFTMAX_COLUMNS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/softmax/rows.hxx"

#ifdef SOFIE_AVX512_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// What becomes of a group of columns: their largest numbers, and the sums of e^(x - most); in the end what these are
/// multiplied by, or their logarithms.
struct SoftmaxStatistics {
   Pack<float> most, sums;
};

/// Groups of up to sixteen columns that are `step` apart, of rows that are `apart`, in bytes; at least one of each.
struct SoftmaxColumns {
   const float *x;
   float *y;
   Size groups, step, rows, apart;
   SoftmaxStatistics *statistics;
   Size mask; // The lanes with columns.
};

// clang-format off
#define SOFIE_SOFTMAX_COLUMNS_MOST(at, x, most)                                     \
   "vmovups " at ", %%zmm" #x "%{%%k1%}%{z%}\n\t"                                   \
   "vmaxps %%zmm" #most ", %%zmm" #x ", %%zmm" #most "%{%%k1%}\n\t"
#define SOFIE_SOFTMAX_STATISTICS SOFIE_MEMBERS(statistics, SoftmaxStatistics, most, sums)
#define SOFIE_SOFTMAX_COLUMNS_MEMBERS SOFIE_MEMBERS(of, SoftmaxColumns, step, rows, mask), SOFIE_SOFTMAX_STATISTICS
#define SOFIE_SOFTMAX_COLUMNS_NEXT                                                  \
   "add %c[of_step](%[of]), %[x]\n\t"                                               \
   "sub $-128, %[statistics]\n\t"                                                   \
   "dec %[groups]\n\t"                                                              \
   "jnz 1b\n\t"
#define SOFIE_SOFTMAX_COLUMNS_ROWS(step)                                            \
   "mov %[x], %[at]\n\t"                                                            \
   "mov %c[of_rows](%[of]), %[k]\n"                                                 \
   "2:\n\t"                                                                         \
   step                                                                             \
   "add %[apart], %[at]\n\t"                                                        \
   "dec %[k]\n\t"                                                                   \
   "jnz 2b\n\t"
#define SOFIE_SOFTMAX_COLUMNS_POWERS(store)                                                                \
   asm volatile(                                                                                           \
      SOFIE_SOFTMAX_NUMBERS                                                         \
      "kmovw %c[of_mask](%[of]), %%k1\n"                                                                   \
      "1:\n\t"                                                                                             \
      "vmovaps %c[statistics_most](%[statistics]), %%zmm16\n\t"                                            \
      "vmovaps %c[statistics_sums](%[statistics]), %%zmm17\n\t"                                            \
      SOFIE_SOFTMAX_COLUMNS_ROWS(                                                                          \
         "vmovups (%[at]), %%zmm4%{%%k1%}%{z%}\n\t"                                                        \
         SOFIE_ROWS_EXP("%{%%k1%}")                                                                        \
         store)                                                                                            \
      "vmovaps %%zmm17, %c[statistics_sums](%[statistics])\n\t"                                            \
      SOFIE_SOFTMAX_COLUMNS_NEXT                                                                           \
      : [x] "+&r"(x), [statistics] "+&r"(statistics), [groups] "+&r"(groups), [at] "=&r"(at), [k] "=&r"(k) \
      : [of] "r"(&of), SOFIE_SOFTMAX_COLUMNS_MEMBERS,                                    \
        [apart] "r"(of.apart), [beyond] "r"(beyond), [numbers] "r"(&rows_exponential),                   \
        SOFIE_SOFTMAX_MEMBERS                                                                            \
      : "memory", "cc", "k1", "k3", SOFIE_ALL_PACKS)
#define SOFIE_SOFTMAX_COLUMNS_FINISH(finish)                                        \
   asm volatile(                                                                    \
      "kmovw %c[of_mask](%[of]), %%k1\n"                                            \
      "1:\n\t"                                                                      \
      "vmovaps %c[statistics_most](%[statistics]), %%zmm16\n\t"                     \
      "vmovaps %c[statistics_sums](%[statistics]), %%zmm17\n\t"                     \
      SOFIE_SOFTMAX_COLUMNS_ROWS(                                                   \
         finish                                                                     \
         "vmovups %%zmm0, (%[at],%[beyond])%{%%k1%}\n\t")                           \
      SOFIE_SOFTMAX_COLUMNS_NEXT                                                    \
      : [x] "+&r"(x), [statistics] "+&r"(statistics), [groups] "+&r"(groups), [at] "=&r"(at), [k] "=&r"(k)          \
      : [of] "r"(&of), SOFIE_SOFTMAX_COLUMNS_MEMBERS,                                    \
        [apart] "r"(of.apart), [beyond] "r"(beyond)                                 \
      : "memory", "cc", "k1", "xmm0", "xmm16", "xmm17")
// clang-format on

/// The largest numbers, of these and of what was there, without those that are NaN.
SOFIE_KERNEL inline void softmax_columns_most(const SoftmaxColumns &of)
{
   static_assert(sizeof(SoftmaxStatistics) == 128, "the assembler goes on by so many bytes");
   const float *x = of.x, *at;
   SoftmaxStatistics *statistics = of.statistics;
   Size groups = of.groups, k;
   // clang-format off
   asm volatile(
      "kmovw %c[of_mask](%[of]), %%k1\n"
      "1:\n\t"
      "vmovaps %c[statistics_most](%[statistics]), %%zmm16\n\t"
      "vmovaps %%zmm16, %%zmm17\n\t"
      "mov %[x], %[at]\n\t"
      "mov %c[of_rows](%[of]), %[k]\n\t"
      "shr $1, %[k]\n\t"
      "jz 3f\n"
      "2:\n\t"
      SOFIE_SOFTMAX_COLUMNS_MOST("(%[at])", 4, 16)
      SOFIE_SOFTMAX_COLUMNS_MOST("(%[at],%[apart])", 5, 17)
      "lea (%[at],%[apart],2), %[at]\n\t"
      "dec %[k]\n\t"
      "jnz 2b\n"
      "3:\n\t"
      "testb $1, %c[of_rows](%[of])\n\t"
      "jz 4f\n\t"
      SOFIE_SOFTMAX_COLUMNS_MOST("(%[at])", 4, 16)
      "4:\n\t"
      "vmaxps %%zmm17, %%zmm16, %%zmm16\n\t"
      "vmovaps %%zmm16, %c[statistics_most](%[statistics])\n\t"
      SOFIE_SOFTMAX_COLUMNS_NEXT
      : [x] "+&r"(x), [statistics] "+&r"(statistics), [groups] "+&r"(groups), [at] "=&r"(at), [k] "=&r"(k)
      : [of] "r"(&of), SOFIE_SOFTMAX_COLUMNS_MEMBERS,
        [apart] "r"(of.apart)
      : "memory", "cc", "k1", "xmm4", "xmm5", "xmm16", "xmm17");
   // clang-format on
}

/// The sums of e^(x - most), added to what was there; y = e^(x - most) if asked for.
template <bool Stores>
SOFIE_KERNEL void softmax_columns_powers(const SoftmaxColumns &of)
{
   const float *x = of.x, *at;
   SoftmaxStatistics *statistics = of.statistics;
   Size groups = of.groups, k;
   const Size beyond = reinterpret_cast<const char *>(of.y) - reinterpret_cast<const char *>(of.x);
   if constexpr (Stores)
      SOFIE_SOFTMAX_COLUMNS_POWERS("vmovups %%zmm4, (%[at],%[beyond])%{%%k1%}\n\t");
   else
      SOFIE_SOFTMAX_COLUMNS_POWERS("");
}

/// y times what became of the sums, or x without the largest numbers and that.
template <bool Log>
SOFIE_KERNEL void softmax_columns_finish(const SoftmaxColumns &of)
{
   const float *x = of.x, *at;
   SoftmaxStatistics *statistics = of.statistics;
   Size groups = of.groups, k;
   const Size beyond = reinterpret_cast<const char *>(of.y) - reinterpret_cast<const char *>(of.x);
   if constexpr (Log)
      SOFIE_SOFTMAX_COLUMNS_FINISH("vmovups (%[at]), %%zmm0%{%%k1%}%{z%}\n\t"
                                   "vsubps %%zmm16, %%zmm0, %%zmm0\n\tvsubps %%zmm17, %%zmm0, %%zmm0\n\t");
   else
      SOFIE_SOFTMAX_COLUMNS_FINISH("vmovups (%[at],%[beyond]), %%zmm0%{%%k1%}%{z%}\n\t"
                                   "vmulps %%zmm17, %%zmm0, %%zmm0\n\t");
}

/// y times what became of the sums, for blocks of rows that are shorter than a register: as they lie in memory. A load
/// that begins where the lanes without columns of a store before it are waits for that store.
SOFIE_KERNEL inline void softmax_short_rows_finish(const SoftmaxColumns &of, Size columns, Size numbers)
{
   constexpr int n = lanes<float>;
   alignas(64) float factors[2 * n]; // From each column on.
   float *y = of.y;
   for (Size g = 0; g < of.groups; ++g, y += of.step / Size{sizeof(float)}) {
      store(factors, of.statistics[g].sums);
      for (Size i = columns; i < 2 * n; ++i)
         factors[i] = factors[i - columns];
      Size column = 0, i = 0;
   SOFIE_UNROLL(4)
      for (; i + n <= numbers; i += n) {
         store(y + i, load<n>(y + i) * load<n>(factors + column));
         column += n % columns;
         column -= column >= columns ? columns : 0;
      }
      if (i < numbers)
         store_some(y + i, load_some<n>(y + i, numbers - i) * load<n>(factors + column), numbers - i);
   }
}

/// What is done with the sums once they are whole.
template <bool Log>
SOFIE_INLINE Pack<float> softmax_finished(Pack<float> sums)
{
   if constexpr (Log)
      return log(sums);
   else
      return splat<Pack<float>>(1) / sums;
}

/// How many groups are done together at most.
inline constexpr Size softmax_groups = 16;

/// The softmax of so many groups, or its logarithm. `of` has no statistics yet.
template <bool Log>
SOFIE_KERNEL void softmax_some_columns(SoftmaxColumns &of)
{
   SoftmaxStatistics statistics[static_cast<std::size_t>(softmax_groups)];
   for (Size g = 0; g < of.groups; ++g)
      statistics[g] = {splat<Pack<float>>(-MathOf<float>::infinity), Pack<float>{}};
   of.statistics = statistics;
   softmax_columns_most(of);
   softmax_columns_powers<!Log>(of);
   for (Size g = 0; g < of.groups; ++g)
      statistics[g].sums = softmax_finished<Log>(statistics[g].sums);
   if (!Log && of.apart < Size{sizeof(Pack<float>)})
      softmax_short_rows_finish(of, of.apart / Size{sizeof(float)}, of.rows * of.apart / Size{sizeof(float)});
   else
      softmax_columns_finish<Log>(of);
}

/// Any number of groups: as many together as the first cache keeps.
template <bool Log>
SOFIE_INLINE void softmax_column_groups(SoftmaxColumns of)
{
   constexpr Size cached = 256; // Registers of rows.
   const Size fitting = cached / of.rows, most = fitting < softmax_groups ? fitting : softmax_groups;
   const Size together = most > 0 ? most : 1, bytes = together * of.step, all = of.groups;
   for (Size done = 0; done < all; done += together) {
      of.groups = all - done < together ? all - done : together;
      softmax_some_columns<Log>(of);
      of.x = reinterpret_cast<const float *>(reinterpret_cast<const char *>(of.x) + bytes);
      of.y = reinterpret_cast<float *>(reinterpret_cast<char *>(of.y) + bytes);
   }
}

/// Lanes that are `columns` apart belong to one column: each of them gets what they are together.
template <class Combine>
SOFIE_KERNEL void join_lanes(Pack<float> &pack, Size columns)
{
   constexpr Size n = lanes<float>;
   alignas(64) float all[static_cast<std::size_t>(n)];
   store(all, pack);
   const Size used = n / columns * columns;
   for (Size i = columns; i < used; ++i)
      all[i % columns] = Combine::combined(PackN<float, 1>{all[i % columns]}, PackN<float, 1>{all[i]})[0];
   for (Size i = columns; i < used; ++i)
      all[i] = all[i - columns];
   pack = load<lanes<float>>(all);
}

/// One block of few columns: as many rows as they have lanes for lie in one register.
template <bool Log>
SOFIE_KERNEL void softmax_few_columns(float *y, const float *x, Size rows, Size columns)
{
   constexpr Size n = lanes<float>, bytes = sizeof(float);
   const Size together = n / columns, width = together * columns, rest = rows % together;
   SoftmaxStatistics statistics{splat<Pack<float>>(-MathOf<float>::infinity), Pack<float>{}};
   const SoftmaxColumns whole{x, y, 1, 0, rows / together, width * bytes, &statistics, (Size{1} << width) - 1};
   const Size done = rows / together * width;
   const SoftmaxColumns last{x + done, y + done, 1, 0, 1, 0, &statistics, (Size{1} << rest * columns) - 1};
   softmax_columns_most(whole);
   softmax_columns_most(last);
   join_lanes<LargestOfLanes>(statistics.most, columns);
   softmax_columns_powers<!Log>(whole);
   softmax_columns_powers<!Log>(last);
   join_lanes<SumOfLanes>(statistics.sums, columns);
   statistics.sums = softmax_finished<Log>(statistics.sums);
   if constexpr (Log) {
      softmax_columns_finish<Log>(whole);
      softmax_columns_finish<Log>(last);
   } else {
      softmax_short_rows_finish(whole, columns, rows * columns);
   }
}

/// The softmax along the middle axis of [outer, rows, inner], or its logarithm.
template <bool Log>
SOFIE_KERNEL void softmax_float_columns(float *y, const float *x, Size outer, Size rows, Size inner)
{
   constexpr Size n = lanes<float>, bytes = sizeof(float);
   constexpr Size many_rows = 64; // From here on it pays to join lanes in the end.
   const Size block = rows * inner, packs = inner / n, rest = inner % n;
   if (block == 0)
      return;
   if (2 * inner <= n && rows >= many_rows) {
      for (Size o = 0; o < outer; ++o)
         softmax_few_columns<Log>(y + o * block, x + o * block, rows, inner);
      return;
   }
   const Size all = (Size{1} << n) - 1, row = inner * bytes;
   if (packs > outer) {
      for (Size o = 0; o < outer; ++o)
         softmax_column_groups<Log>({x + o * block, y + o * block, packs, n * bytes, rows, row, nullptr, all});
   } else {
      for (Size j = 0; j < packs; ++j)
         softmax_column_groups<Log>({x + j * n, y + j * n, outer, block * bytes, rows, row, nullptr, all});
   }
   if (rest > 0)
      softmax_column_groups<Log>(
         {x + packs * n, y + packs * n, outer, block * bytes, rows, row, nullptr, (Size{1} << rest) - 1});
}

} // namespace sofie

SOFIE_END

#endif

#endif
