/// \file
/// Windows over small planes of floats: those of several items lie side by side in the lanes of registers.
///
/// An item is an event, with a plane for each channel, or a plane alone. Numbers of a pack of items become rows, a list
/// says for each place of a result which of them it is made of, and results become numbers of items again. So no lane
/// is empty, however small planes are, and padding is never read.
#ifndef SOFIE_KERNELS_TRANSPOSE_WINDOW_LANES_HXX
#define SOFIE_KERNELS_TRANSPOSE_WINDOW_LANES_HXX

#include "sofie/kernels/transpose/lanes_transpose.hxx"

#ifdef SOFIE_TILE_ASSEMBLER

SOFIE_BEGIN

namespace sofie {

/// Items, and the elements from one to the next, of x and of y. Each has `groups` planes of so many inputs and outputs.
/// The list has for each output how many bytes of it follow, and then for each input where it is among rows of packs
/// and where its weight is among the `taps` of a group, in bytes. Results begin with `start`, of which the next group's
/// is `start_group` elements further, and are at least `floor`.
struct WindowItems {
   Size count, x_item, y_item;
   Size groups, inputs, outputs;
   const std::int32_t *list;
   const float *w, *start;
   Size taps, start_group;
   float floor;
};

/// Some groups, whose numbers are rows of packs. Steps from a group to the next are in bytes.
struct WindowLanes {
   const float *x, *w, *start;
   float *y;
   const std::int32_t *list;
   Size groups, outputs, x_group, w_group, start_group;
};

// clang-format off
#define SOFIE_WINDOW_IF(pack, text) ".if %c[packs] > " #pack "\n\t" text ".endif\n\t"
#define SOFIE_WINDOW_EACH(each)                                                          \
   each(0) SOFIE_WINDOW_IF(1, each(1) each(2) each(3))
#define SOFIE_WINDOW_START(a) "vmovaps " SOFIE_PACK(8) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_WINDOW_PLACE(a) #a "*" SOFIE_PACK_BYTES "(%[from])"
#define SOFIE_WINDOW_ADD(a) "vfmadd231ps " SOFIE_WINDOW_PLACE(a) ", " SOFIE_PACK(9) ", " SOFIE_PACK(a) "\n\t"
// NaN stays.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_WINDOW_MAX(a)                                                              \
   "vcmpps $7, %%zmm" #a ", %%zmm" #a ", %%k1\n\t"                                       \
   "vmaxps " SOFIE_WINDOW_PLACE(a) ", %%zmm" #a ", %%zmm" #a "%{%%k1%}\n\t"
#define SOFIE_WINDOW_REGISTERS "k1", SOFIE_ALL_PACKS
#else
#define SOFIE_WINDOW_MAX(a)                                                              \
   "vcmpps $3, %%ymm" #a ", %%ymm" #a ", %%ymm9\n\t"                                     \
   "vmaxps " SOFIE_WINDOW_PLACE(a) ", %%ymm" #a ", %%ymm10\n\t"                          \
   "vblendvps %%ymm9, %%ymm" #a ", %%ymm10, %%ymm" #a "\n\t"
#define SOFIE_WINDOW_REGISTERS SOFIE_ALL_YMM
#endif
#define SOFIE_WINDOW_STORE(a) "vmovups " SOFIE_PACK(a) ", " #a "*" SOFIE_PACK_BYTES "(%[y])\n\t"
#define SOFIE_WINDOW_LOOP(weight, rule)                                                          \
   asm volatile(                                                                         \
      "1:\n\t"                                                                           \
      "mov %c[of_list](%[of]), %[at]\n\t"                                                \
      "mov %c[of_outputs](%[of]), %[k]\n"                                                \
      "2:\n\t"                                                                           \
      "vbroadcastss (%[start]), " SOFIE_PACK(8) "\n\t"                                   \
      SOFIE_WINDOW_EACH(SOFIE_WINDOW_START)                                              \
      "movslq (%[at]), %[end]\n\t"                                                       \
      "add $4, %[at]\n\t"                                                                \
      "add %[at], %[end]\n\t"                                                            \
      "cmp %[end], %[at]\n\t"                                                            \
      "je 4f\n"                                                                          \
      "3:\n\t"                                                                           \
      weight                                                                             \
      "movslq (%[at]), %[from]\n\t"                                                      \
      "add %[x], %[from]\n\t"                                                            \
      rule                                                                               \
      "add $8, %[at]\n\t"                                                                \
      "cmp %[end], %[at]\n\t"                                                            \
      "jne 3b\n"                                                                         \
      "4:\n\t"                                                                           \
      SOFIE_WINDOW_EACH(SOFIE_WINDOW_STORE)                                              \
      "add $" SOFIE_PACK_BYTES "*%c[packs], %[y]\n\t"                                    \
      "dec %[k]\n\t"                                                                     \
      "jnz 2b\n\t"                                                                       \
      "add %c[of_x_group](%[of]), %[x]\n\t"                                              \
      "add %c[of_w_group](%[of]), %[w]\n\t"                                              \
      "add %c[of_start_group](%[of]), %[start]\n\t"                                      \
      "dec %[groups]\n\t"                                                                \
      "jnz 1b\n\t"                                                                       \
      : [x] "+&r"(x), [w] "+&r"(w), [start] "+&r"(start), [y] "+&r"(y), [groups] "+&r"(groups), [at] "=&r"(at),         \
        [end] "=&r"(end), [from] "=&r"(from), [k] "=&r"(k)                               \
      : [of] "r"(&of), SOFIE_MEMBERS(of, WindowLanes, list, outputs, x_group, w_group, start_group), [packs] "i"(Packs) \
      : "memory", "cc", SOFIE_WINDOW_REGISTERS)
// clang-format on

/// Sums of inputs times weights, or largest inputs, for rows of so many packs.
template <bool Largest, int Packs>
SOFIE_KERNEL void window_lanes(const WindowLanes &of)
{
   const float *x = of.x, *w = of.w, *start = of.start, *from;
   float *y = of.y;
   const std::int32_t *at, *end;
   Size groups = of.groups, k;
   if constexpr (Largest)
      SOFIE_WINDOW_LOOP("", SOFIE_WINDOW_EACH(SOFIE_WINDOW_MAX));
   else
      SOFIE_WINDOW_LOOP("movslq 4(%[at]), %[from]\n\tvbroadcastss (%[w],%[from]), " SOFIE_PACK(9) "\n\t",
                        SOFIE_WINDOW_EACH(SOFIE_WINDOW_ADD));
}

/// The rows of a pack that there is memory for, for several packs fewer.
inline constexpr Size window_rows = 512, window_packs = 4;

/// How many packs of items are done together; 0 where planes are too large, or items too few.
SOFIE_INLINE Size window_packs_of(Size items, Size inputs, Size outputs)
{
   const Size rows = inputs + outputs;
   if (items < lanes<float> || rows > window_rows / window_packs * (window_packs - 1) || outputs <= 0 || inputs <= 0)
      return 0;
   return items >= window_packs * lanes<float> && 4 * rows <= window_rows / window_packs ? window_packs : 1;
}

/// Numbers of packs of items as rows: to[number][item].
SOFIE_KERNEL inline void numbers_to_lanes(float *to, const float *x, Size item, Size numbers, Size packs)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   for (Size pack = 0; pack < packs; ++pack, to += n, x += n * item) {
      lanes_transpose({x, to, nullptr, nullptr, item * bytes, packs * n * bytes, numbers / 4, (Size{1} << n) - 1,
                       -__builtin_inff()});
      for (Size i = numbers / 4 * 4; i < numbers; ++i)
         for (Size lane = 0; lane < n; ++lane)
            to[i * packs * n + lane] = x[lane * item + i];
   }
}

/// The other way round, with a floor; there are rows of a pack more.
SOFIE_KERNEL inline void lanes_to_numbers(float *y, const float *from, Size item, Size numbers, Size packs, float floor)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   for (Size pack = 0; pack < packs; ++pack, from += n, y += n * item)
      for (Size i = 0; i < numbers; i += n) {
         const Size some = numbers - i < n ? numbers - i : n;
         lanes_transpose({from + i * packs * n, y + i, nullptr, nullptr, packs * n * bytes, item * bytes, n / 4,
                          (Size{1} << some) - 1, floor});
      }
}

/// All items, in steps of `Packs` packs, of which there is one at least.
template <bool Largest, int Packs>
SOFIE_KERNEL void window_items(const WindowItems &s, float *y, const float *x)
{
   constexpr Size n = lanes<float>, row = Packs * n, bytes = static_cast<Size>(sizeof(float));
   constexpr Size rows = window_rows / Packs;
   // Whole registers of four numbers, where there are more groups.
   float memory[(rows + n) * row];
   const Size fit = rows / (s.inputs + s.outputs), most = fit > 4 ? fit / 4 * 4 : fit;
   for (Size i = 0; i < s.count; i += row) {
      // The last ones end with the last item.
      const Size first = i < s.count - row ? i : s.count - row;
      for (Size g = 0; g < s.groups; g += most) {
         const Size some = s.groups - g < most ? s.groups - g : most;
         float *const results = memory + some * s.inputs * row;
         numbers_to_lanes(memory, x + first * s.x_item + g * s.inputs, s.x_item, some * s.inputs, Packs);
         window_lanes<Largest, Packs>({memory, s.w + g * s.taps, s.start + g * s.start_group, results, s.list, some,
                                       s.outputs, s.inputs * row * bytes, s.taps * bytes, s.start_group * bytes});
         lanes_to_numbers(y + first * s.y_item + g * s.outputs, results, s.y_item, some * s.outputs, Packs, s.floor);
      }
   }
}

} // namespace sofie

SOFIE_END

#endif

#endif
