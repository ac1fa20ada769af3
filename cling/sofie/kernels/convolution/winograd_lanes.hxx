/// \file
/// `convolution_winograd` for 3 x 3 kernels with many channels and features, which lie in the lanes.
///
/// A tile is of 4 x 4 outputs, or of 2 x 2, which are 16 products instead of 36: where there are few tiles,
/// reading the weights takes longer than multiplying with them.
///
/// A pack of channels of a tile is transformed together, and a pack of features of its outputs, so that
/// no lane is empty, however small the image is. Only at both ends channels and places change
/// places. Without AVX2 this is `convolution_winograd`.
#ifndef SOFIE_KERNELS_CONVOLUTION_WINOGRAD_LANES_HXX
#define SOFIE_KERNELS_CONVOLUTION_WINOGRAD_LANES_HXX

#include "sofie/kernels/convolution/lanes.hxx"
#include "sofie/kernels/convolution/winograd.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER

// Transforms ---------------------------------------------------------------------------------------

/// A number of packs, and what is made of them, where they are in memory: from[i * from_step], of which
/// the next is `from_next` behind; and so on. In bytes.
struct WinogradLanes {
   const float *from;
   Size from_step, from_next;
   float *to;
   Size to_step, to_next;
};

// clang-format off
// Constants are registers of AVX-512, and packs in memory of AVX2.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_WINOGRAD_CONSTANT(number, a) "vbroadcastss 4*" #number "(%[constants]), %%zmm" #a "\n\t"
#define SOFIE_WINOGRAD_CONSTANTS                                                                         \
   SOFIE_WINOGRAD_CONSTANT(0, 26) SOFIE_WINOGRAD_CONSTANT(1, 27) SOFIE_WINOGRAD_CONSTANT(2, 28)          \
   SOFIE_WINOGRAD_CONSTANT(3, 29) SOFIE_WINOGRAD_CONSTANT(4, 30) SOFIE_WINOGRAD_CONSTANT(5, 31)
#define SOFIE_WINOGRAD_C(number, a) "%%zmm" #a
#define SOFIE_WINOGRAD_REGISTERS                                                                         \
   "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm26", "xmm27", "xmm28", \
      "xmm29", "xmm30", "xmm31"
#define SOFIE_WINOGRAD_ALL(x) x
#else
#define SOFIE_WINOGRAD_CONSTANTS
#define SOFIE_WINOGRAD_C(number, a) "32*" #number "(%[constants])"
#define SOFIE_WINOGRAD_REGISTERS SOFIE_ALL_YMM
#define SOFIE_WINOGRAD_ALL(x) x, x, x, x, x, x, x, x
#endif
#define SOFIE_WINOGRAD_C0 SOFIE_WINOGRAD_C(0, 26)
#define SOFIE_WINOGRAD_C1 SOFIE_WINOGRAD_C(1, 27)
#define SOFIE_WINOGRAD_C2 SOFIE_WINOGRAD_C(2, 28)
#define SOFIE_WINOGRAD_C3 SOFIE_WINOGRAD_C(3, 29)
#define SOFIE_WINOGRAD_C4 SOFIE_WINOGRAD_C(4, 30)
#define SOFIE_WINOGRAD_C5 SOFIE_WINOGRAD_C(5, 31)
#define SOFIE_WINOGRAD_FROM(place, a) "vmovups (%[from]" place "), " SOFIE_PACK(a) "\n\t"
#define SOFIE_WINOGRAD_TO(place, a) "vmovups " SOFIE_PACK(a) ", (%[to]" place ")\n\t"
#define SOFIE_WINOGRAD_TWO(name, a, b, c) name " " SOFIE_PACK(a) ", " SOFIE_PACK(b) ", " SOFIE_PACK(c) "\n\t"
#define SOFIE_WINOGRAD_BY(name, a, b, c) name " " a ", " SOFIE_PACK(b) ", " SOFIE_PACK(c) "\n\t"
#define SOFIE_WINOGRAD_FMA(a, b, c) SOFIE_WINOGRAD_BY("vfmadd231ps", a, b, c)
#define SOFIE_WINOGRAD_FNMA(a, b, c) SOFIE_WINOGRAD_BY("vfnmadd231ps", a, b, c)
#define SOFIE_WINOGRAD_COPY(a, b) "vmovaps " SOFIE_PACK(a) ", " SOFIE_PACK(b) "\n\t"
#define SOFIE_WINOGRAD_LOADS_4                                                                           \
   SOFIE_WINOGRAD_FROM("", 0) SOFIE_WINOGRAD_FROM(",%[step]", 1) SOFIE_WINOGRAD_FROM(",%[step],2", 2)    \
   SOFIE_WINOGRAD_FROM(",%[step3]", 3)
#define SOFIE_WINOGRAD_LOADS_6                                                                           \
   SOFIE_WINOGRAD_LOADS_4 SOFIE_WINOGRAD_FROM(",%[step],4", 4) SOFIE_WINOGRAD_FROM(",%[step5]", 5)
#define SOFIE_WINOGRAD_NEXT          \
   "add %[next], %[from]\n\t"        \
   "add %[stride], %[to]\n\t"        \
   "dec %[count]\n\t"                \
   "jnz 1b\n\t"
#define SOFIE_WINOGRAD_INPUT_6                                                                           \
   SOFIE_WINOGRAD_CONSTANTS                                                                              \
   ".p2align 5\n"                                                                                        \
   "1:\n\t"                                                                                              \
   SOFIE_WINOGRAD_LOADS_6                                                                                \
   SOFIE_WINOGRAD_COPY(4, 6) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C1, 2, 6) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C0, 0, 6)                   \
   SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C1, 3, 5) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C0, 1, 5)                                             \
   SOFIE_WINOGRAD_COPY(4, 7) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C2, 2, 7)                                                \
   SOFIE_WINOGRAD_COPY(3, 8) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C2, 1, 8)                                                \
   SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C3, 2, 4) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C3, 1, 3)                                             \
   SOFIE_WINOGRAD_COPY(7, 9) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C4, 8, 9) SOFIE_WINOGRAD_FNMA(SOFIE_WINOGRAD_C4, 8, 7)                  \
   SOFIE_WINOGRAD_COPY(4, 10) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C5, 3, 10) SOFIE_WINOGRAD_FNMA(SOFIE_WINOGRAD_C5, 3, 4)                \
   SOFIE_WINOGRAD_TO("", 6) SOFIE_WINOGRAD_TO(",%[row]", 9) SOFIE_WINOGRAD_TO(",%[row],2", 7)            \
   SOFIE_WINOGRAD_TO(",%[row3]", 10) SOFIE_WINOGRAD_TO(",%[row],4", 4) SOFIE_WINOGRAD_TO(",%[row5]", 5)
#define SOFIE_WINOGRAD_INPUT_4                                                                           \
   ".p2align 5\n"                                                                                        \
   "1:\n\t"                                                                                              \
   SOFIE_WINOGRAD_LOADS_4                                                                                \
   SOFIE_WINOGRAD_TWO("vsubps", 0, 2, 4) SOFIE_WINOGRAD_TWO("vaddps", 1, 2, 5)                           \
   SOFIE_WINOGRAD_TWO("vsubps", 1, 2, 6) SOFIE_WINOGRAD_TWO("vsubps", 1, 3, 7)                           \
   SOFIE_WINOGRAD_TO("", 4) SOFIE_WINOGRAD_TO(",%[row]", 5) SOFIE_WINOGRAD_TO(",%[row],2", 6)            \
   SOFIE_WINOGRAD_TO(",%[row3]", 7)
#define SOFIE_WINOGRAD_OUTPUT_6                                                                          \
   SOFIE_WINOGRAD_CONSTANTS                                                                              \
   ".p2align 5\n"                                                                                        \
   "1:\n\t"                                                                                              \
   SOFIE_WINOGRAD_LOADS_6                                                                                \
   SOFIE_WINOGRAD_TWO("vaddps", 2, 1, 6) SOFIE_WINOGRAD_TWO("vsubps", 2, 1, 7)                           \
   SOFIE_WINOGRAD_TWO("vaddps", 4, 3, 8) SOFIE_WINOGRAD_TWO("vsubps", 4, 3, 9)                           \
   SOFIE_WINOGRAD_TWO("vaddps", 6, 0, 0) SOFIE_WINOGRAD_TWO("vaddps", 8, 0, 0)                           \
   SOFIE_WINOGRAD_BY("vmulps", SOFIE_WINOGRAD_C0, 7, 1) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C1, 9, 1)                                   \
   SOFIE_WINOGRAD_BY("vmulps", SOFIE_WINOGRAD_C2, 6, 2) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C3, 8, 2)                                   \
   SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C4, 7, 5) SOFIE_WINOGRAD_FMA(SOFIE_WINOGRAD_C5, 9, 5)                                             \
   SOFIE_WINOGRAD_TO("", 0) SOFIE_WINOGRAD_TO(",%[row]", 1) SOFIE_WINOGRAD_TO(",%[row],2", 2)            \
   SOFIE_WINOGRAD_TO(",%[row3]", 5)
#define SOFIE_WINOGRAD_OUTPUT_4                                                                          \
   ".p2align 5\n"                                                                                        \
   "1:\n\t"                                                                                              \
   SOFIE_WINOGRAD_LOADS_4                                                                                \
   SOFIE_WINOGRAD_TWO("vaddps", 1, 0, 0) SOFIE_WINOGRAD_TWO("vsubps", 2, 1, 1)                           \
   SOFIE_WINOGRAD_TWO("vaddps", 2, 0, 0) SOFIE_WINOGRAD_TWO("vaddps", 3, 1, 1)                           \
   SOFIE_WINOGRAD_TO("", 0) SOFIE_WINOGRAD_TO(",%[row]", 1)
#define SOFIE_WINOGRAD_LINES(transform)                                                                       \
   asm volatile(                                                                                              \
      transform                                                                                               \
      SOFIE_WINOGRAD_NEXT                                                                                     \
      : [from] "+&r"(from), [to] "+&r"(to), [count] "+&r"(count)                                              \
      : [step] "r"(lines.from_step), [step3] "r"(3 * lines.from_step), [step5] "r"(5 * lines.from_step),      \
        [next] "r"(lines.from_next), [row] "r"(lines.to_step), [row3] "r"(3 * lines.to_step),                 \
        [row5] "r"(5 * lines.to_step), [stride] "r"(lines.to_next), [constants] "r"(constants)                \
      : "memory", "cc", SOFIE_WINOGRAD_REGISTERS)
// clang-format on

/// to = B^T from, `count` times.
template <int Inputs>
SOFIE_KERNEL void winograd_lanes_input(const WinogradLanes &lines, Size count)
{
   // Coefficients of the product of z - p^2 over both pairs, and over the other one; and the points.
   static constexpr float constants[] = {SOFIE_WINOGRAD_ALL(static_cast<float>(winograd_coefficient<6>(0))),
                                         SOFIE_WINOGRAD_ALL(static_cast<float>(winograd_coefficient<6>(1))),
                                         SOFIE_WINOGRAD_ALL(static_cast<float>(winograd_coefficient<6>(0, 0))),
                                         SOFIE_WINOGRAD_ALL(static_cast<float>(winograd_coefficient<6>(0, 1))),
                                         SOFIE_WINOGRAD_ALL(static_cast<float>(WinogradPoints<6>::of(0))),
                                         SOFIE_WINOGRAD_ALL(static_cast<float>(WinogradPoints<6>::of(1)))};
   const float *from = lines.from;
   float *to = lines.to;
   if (count <= 0)
      return;
   if constexpr (Inputs == 6)
      SOFIE_WINOGRAD_LINES(SOFIE_WINOGRAD_INPUT_6);
   else
      SOFIE_WINOGRAD_LINES(SOFIE_WINOGRAD_INPUT_4);
}

/// to = A^T from, `count` times.
template <int Inputs>
SOFIE_KERNEL void winograd_lanes_output(const WinogradLanes &lines, Size count)
{
   constexpr double p = WinogradPoints<6>::of(0), q = WinogradPoints<6>::of(1);
   static constexpr float constants[] = {
      SOFIE_WINOGRAD_ALL(static_cast<float>(p)),         SOFIE_WINOGRAD_ALL(static_cast<float>(q)),
      SOFIE_WINOGRAD_ALL(static_cast<float>(p * p)),     SOFIE_WINOGRAD_ALL(static_cast<float>(q * q)),
      SOFIE_WINOGRAD_ALL(static_cast<float>(p * p * p)), SOFIE_WINOGRAD_ALL(static_cast<float>(q * q * q))};
   const float *from = lines.from;
   float *to = lines.to;
   if (count <= 0)
      return;
   if constexpr (Inputs == 6)
      SOFIE_WINOGRAD_LINES(SOFIE_WINOGRAD_OUTPUT_6);
   else
      SOFIE_WINOGRAD_LINES(SOFIE_WINOGRAD_OUTPUT_4);
}

// Weights ------------------------------------------------------------------------------------------

/// W[M, C, height, width]: for each panel of features, and each point, a panel whose steps are channels.
template <int Inputs>
class WinogradPanels {
   static constexpr Size points = Inputs * Inputs;
   Buffer<float> panels_;

public:
   /// Of W, and of its panels for `convolution_lanes`.
   SOFIE_KERNEL WinogradPanels(const ConvFilters<float> &of, const float *from)
   {
      if (!winograd_weights_fit(of))
         return;
      panels_ = Buffer<float>(ceil_div(of.features, lanes<float>) * lanes<float> * points * of.channels);
      const WinogradMatrix<Inputs, Inputs - 2> matrix;
      for (Size m = 0; m < of.features; m += lanes_features) {
         const Size panel = lanes_panel(of.features - m);
         for (Size c = 0; c < of.channels; ++c, from += of.taps * panel)
            for (Size lane = 0; lane < panel; lane += lanes<double>)
               winograd_weights_of(panels_.data() + (m * points * of.channels + c * panel + lane), of.channels * panel,
                                   from + lane, panel, of.height, of.width, matrix);
      }
   }

   /// None where a weight is not finite or very large or small.
   SOFIE_INLINE const float *data() const { return panels_.size() ? panels_.data() : nullptr; }
};

/// The same for each of some sizes of tiles; W as `convolution_lanes` wants it, for what is left to that; and b[M], if
/// there is one.
template <int... Inputs>
class WinogradLanesWeights : public ConvLanesWeights {
   std::tuple<WinogradPanels<Inputs>...> transformed_;

public:
   SOFIE_KERNEL explicit WinogradLanesWeights(const ConvFilters<float> &of)
      : ConvLanesWeights(of), transformed_(WinogradPanels<Inputs>(of, panels())...)
   {
   }
   template <class... V>
   SOFIE_INLINE explicit WinogradLanesWeights(const V &...views) : WinogradLanesWeights(conv_filters<float>(views...))
   {
   }
   template <int Wanted>
   SOFIE_INLINE const float *transformed() const
   {
      return std::get<WinogradPanels<Wanted>>(transformed_).data();
   }
};

// Some lines of tiles ------------------------------------------------------------------------------

/// What is done at a time, and the memory for it: transformed inputs, [point][tile][channel]; sums,
/// [point][tile][feature of a panel]; a line of tiles of a pack of channels and
/// what it is transformed to; results of tiles.
struct WinogradLanesPlan {
   Size across, high; // tiles in a line of them, and lines of tiles in an event
   Size together;     // lines of tiles at a time
   Size tile, point;  // elements between transformed inputs
   Size sums;         // elements between points of sums
   Size columns;      // of the input, for a line of tiles
   float *inputs, *products, *lines, *half, *results;
};

/// How many transformed inputs there should be at a time; and the elements of a line of the cache, of which an odd
/// number lies between transformed inputs: they do not compete for the same part of the cache.
inline constexpr Size winograd_lanes_budget = Size{1} << 18, winograd_line = 16;

/// What of it does not need the memory.
template <int Inputs>
SOFIE_INLINE WinogradLanesPlan winograd_lanes_lines(const ConvShape &s, Size half, Size events)
{
   constexpr Size outputs = Inputs - 2, points = Inputs * Inputs;
   WinogradLanesPlan plan{};
   plan.across = ceil_div(s.out[2], outputs);
   plan.high = ceil_div(s.out[1], outputs);
   plan.tile = (s.channels / winograd_line | 1) * winograd_line;
   const Size fit = winograd_lanes_budget / (points * plan.tile * plan.across), all = events * plan.high;
   const Size most = lanes_line * half / plan.across, some = fit < most ? fit : most;
   const Size together = some < 1 ? 1 : some;
   plan.together = ceil_div(all, ceil_div(all, together));
   return plan;
}

template <int Inputs>
SOFIE_INLINE WinogradLanesPlan winograd_lanes_plan(const ConvShape &s, Size half, Size events, float *scratch)
{
   constexpr Size outputs = Inputs - 2, n = lanes<float>, points = Inputs * Inputs;
   WinogradLanesPlan plan = winograd_lanes_lines<Inputs>(s, half, events);
   const Size tiles = plan.together * plan.across;
   plan.point = (tiles * plan.tile / winograd_line | 1) * winograd_line;
   plan.sums = (tiles * lanes_features / winograd_line | 1) * winograd_line;
   plan.columns = plan.across * outputs + 2;
   plan.inputs = scratch;
   // Halves of tiles end behind the last one.
   plan.products = plan.inputs + points * plan.point + half * plan.tile;
   plan.lines = plan.products + points * plan.sums + half * lanes_features;
   plan.half = plan.lines + (Inputs * plan.columns + 4) * n;
   plan.results = plan.half + Inputs * plan.columns * n;
   return plan;
}

/// One row of a pack of channels with its padding: to[column][channel].
SOFIE_KERNEL inline void winograd_lanes_row(const ConvShape &s, float *to, Size columns, const float *x, Size row,
                                            const float *end)
{
   constexpr Size n = lanes<float>;
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   const Size before = conv_below(-s.pads[2], 1, columns, 0), after = conv_below(-s.pads[2], 1, columns, s.in[2]);
   if (row < 0 || row >= s.in[1] || after <= before)
      return conv_zeros(to, columns * n);
   conv_zeros(to, before * n);
   const float *const from = x + row * s.in_row + before - s.pads[2];
   const Size count = after - before;
   const Size quads = end - (from + (n - 1) * s.in_channel) >= count + 3 ? ceil_div(count, 4) : count / 4;
   lanes_transpose({from, to + before * n, nullptr, nullptr, s.in_channel * bytes, n * bytes, quads, (Size{1} << n) - 1,
                    -__builtin_inff()});
   for (Size column = 4 * quads; column < count; ++column)
      for (Size c = 0; c < n; ++c)
         to[(before + column) * n + c] = from[c * s.in_channel + column];
   conv_zeros(to + after * n, (columns - after) * n);
}

/// Transformed inputs of `count` lines of tiles from `first` on, which are counted through all events.
template <int Inputs>
SOFIE_KERNEL void winograd_lanes_inputs(const ConvShape &s, const WinogradLanesPlan &plan, Size first, Size count,
                                        const float *x, const float *end)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float)), outputs = Inputs - 2;
   const Size length = plan.columns * n;
   for (Size c = 0; c < s.channels; c += n)
      for (Size i = 0; i < count; ++i) {
         const Size event = (first + i) / plan.high, line = (first + i) % plan.high;
         const float *const from = x + event * s.in_event + c * s.in_channel;
         const bool known = i > 0 && line > 0;
         // Two rows are those of the line before.
         if (known)
            __builtin_memcpy(plan.lines, plan.lines + outputs * length, static_cast<std::size_t>(2 * length * bytes));
         for (Size row = known ? 2 : 0; row < outputs + 2; ++row)
            winograd_lanes_row(s, plan.lines + row * length, plan.columns, from, line * outputs + row - s.pads[1], end);
         winograd_lanes_input<Inputs>({plan.lines, length * bytes, n * bytes, plan.half, length * bytes, n * bytes},
                                      plan.columns);
         for (Size row = 0; row < outputs + 2; ++row)
            winograd_lanes_input<Inputs>({plan.half + row * length, n * bytes, outputs * n * bytes,
                                          plan.inputs + row * Inputs * plan.point + i * plan.across * plan.tile + c,
                                          plan.point * bytes, plan.tile * bytes},
                                         plan.across);
      }
}

/// results[row][column][feature] of a line of tiles, for a panel of features.
template <int Inputs>
SOFIE_KERNEL void winograd_lanes_results(const WinogradLanesPlan &plan, Size line, Size panel)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float)), outputs = Inputs - 2;
   const Size across = plan.across, length = across * n;
   for (Size lane = 0; lane < panel; lane += n) {
      for (Size j = 0; j < outputs + 2; ++j)
         winograd_lanes_output<Inputs>({plan.products + j * plan.sums + line * across * lanes_features + lane,
                                        Inputs * plan.sums * bytes, lanes_features * bytes,
                                        plan.half + j * outputs * length, length * bytes, n * bytes},
                                       across);
      for (Size i = 0; i < outputs; ++i)
         winograd_lanes_output<Inputs>({plan.half + i * length, outputs * length * bytes, n * bytes,
                                        plan.results + i * across * outputs * lanes_features + lane,
                                        lanes_features * bytes, outputs * lanes_features * bytes},
                                       across);
   }
}

/// The results of a panel of features from `feature` on, of some lines of tiles.
template <int Inputs, class R>
SOFIE_KERNEL void winograd_lanes_finish(const ConvShape &s, const WinogradLanesPlan &plan, const R &result,
                                        Size feature, Size first, Size count, Size at)
{
   constexpr Size outputs = Inputs - 2;
   const Size width = s.out[2], length = plan.across * outputs;
   for (Size i = 0; i < count; ++i) {
      const Size event = (first + i) / plan.high, line = (first + i) % plan.high * outputs;
      winograd_lanes_results<Inputs>(plan, i, lanes_panel(s.features - feature));
      const Size rows = s.out[1] - line < outputs ? s.out[1] - line : outputs;
      const Size y = at + event * s.out_event + line * s.out_row;
      if (length == width && s.out_row == width)
         result(plan.results, feature, y, rows * width);
      else
         for (Size row = 0; row < rows; ++row)
            result(plan.results + row * length * lanes_features, feature, y + row * s.out_row, width);
   }
}

/// `events` events from number `event` on, with transformed weights in `panels`.
template <int Inputs, class R>
SOFIE_KERNEL void winograd_lanes_events(const ConvShape &s, const LanesTile &tile, const R &result,
                                        const ConvOperands<float> &of, const float *panels, Size event, Size events)
{
   constexpr Size points = Inputs * Inputs, bytes = static_cast<Size>(sizeof(float));
   if (events <= 0)
      return;
   const WinogradLanesPlan plan = winograd_lanes_plan<Inputs>(s, tile.half, events, of.scratch);
   const Size depth = s.channels, part = ceil_div(depth, ceil_div(depth, winograd_depth));
   std::int32_t begins[lanes_line];
   const Size most = ceil_div(plan.together * plan.across, tile.half);
   for (Size i = 0; i < most; ++i)
      begins[i] = static_cast<std::int32_t>(i * tile.half * plan.tile);
   for (Size k = 0; k < depth; ++k)
      of.offsets[k] = static_cast<std::int32_t>(k);
   for (Size first = 0; first < events * plan.high; first += plan.together) {
      const Size left = events * plan.high - first, count = left < plan.together ? left : plan.together;
      const Size halves = ceil_div(count * plan.across, tile.half);
      winograd_lanes_inputs<Inputs>(s, plan, first, count, of.x + event * s.in_event, of.x + s.batch * s.in_event);
      const float *w = panels;
      for (Size m = 0; m < s.features; m += lanes_features) {
         const Size panel = lanes_panel(s.features - m);
         for (Size point = 0; point < points; ++point)
            for (Size k = 0; k < depth; k += part) {
               const Size steps = depth - k < part ? depth - k : part;
               tile.products(panel)(plan.products + point * plan.sums, {w, of.offsets + k, steps, panel * bytes},
                                    plan.inputs + point * plan.point, begins, halves, plan.tile * bytes, k > 0,
                                    LanesWanted{nullptr, 0, 0, 0});
               w += steps * panel;
            }
         winograd_lanes_finish<Inputs>(s, plan, result, m, first, count, event * s.out_event);
      }
   }
}

// What operators call ------------------------------------------------------------------------------

/// The tiles of its products, and of the convolution without tiles.
struct WinogradTiles {
   LanesTile products, direct;
};

/// Transformed weights are in `panels`, and those for `convolve_lanes` among the other operands.
template <int Inputs, class F>
SOFIE_KERNEL void convolve_winograd_lanes(const F &f, const ConvShape &s, const WinogradTiles &tiles, bool pays,
                                          const float *panels, const ConvOperands<float> &of)
{
   auto [y, scratch, offsets, x, direct, bias, added] = of;
   const LanesResult<F> result{f, y, bias, added, s.out_channel, s.features};
   ConvShape one = s;
   one.batch = 1;
   // Events from `first` on wait to be done together.
   Size first = 0;
   for (Size event = 0; event < s.batch; ++event) {
      const Size at = event * s.out_event;
      if (panels && pays && winograd_fits(x + event * s.in_event, s.in_event, winograd_small))
         continue;
      winograd_lanes_events<Inputs>(s, tiles.products, result, of, panels, first, event - first);
      convolve_lanes(f, one, tiles.direct,
                     {y + at, scratch, offsets, x + event * s.in_event, direct, bias, added ? added + at : nullptr});
      first = event + 1;
   }
   winograd_lanes_events<Inputs>(s, tiles.products, result, of, panels, first, s.batch - first);
}

/// How many tiles with so many outputs along an axis an event has; and whether at least half of what is in them is.
SOFIE_INLINE Size winograd_tiles(const ConvShape &s, Size outputs)
{
   return ceil_div(s.out[1], outputs) * ceil_div(s.out[2], outputs);
}
SOFIE_INLINE bool winograd_fills(const ConvShape &s, Size outputs)
{
   return 2 * s.out[1] * s.out[2] >= outputs * outputs * winograd_tiles(s, outputs);
}

/// The transformed weights with which an image pays that is one tile, as events share products. See
/// kernels/winograd.py.
inline constexpr Size winograd_one = Size{1} << 16;
SOFIE_INLINE bool winograd_is_one(const ConvShape &s)
{
   const bool fills = winograd_tiles(s, 4) == 1 && 2 * s.out[1] * s.out[2] > 16;
   return fills && 36 * s.features * s.channels <= winograd_one;
}

/// Weights that the second cache keeps, or the first one beside all else; the columns whose products take as long as
/// reading more of them; the products that transforms of small tiles take for an input and an output. See
/// kernels/winograd.py.
inline constexpr Size winograd_near = Size{1} << 18, winograd_stream = 24, winograd_nearest = Size{1} << 14,
                      winograd_load = 8, winograd_to_few = 14, winograd_from_few = 9;

/// What products of `columns` columns take for each of `points` weights, or reading these from where they are does.
SOFIE_INLINE Size winograd_time(const ConvShape &s, Size points, Size columns)
{
   const Size weights = points * s.features * s.channels;
   const Size read = weights > winograd_near ? winograd_stream : weights > winograd_nearest ? winograd_load : 0;
   return points * (read > columns ? read : columns);
}

/// The inputs of the tiles that are the fastest for an image, 6 or 4; or 0 where none pays.
SOFIE_KERNEL inline Size winograd_choice(const ConvShape &s, Size least)
{
   // So many columns of products are done at a time, those of a line of tiles at least.
   constexpr Size most = lanes_line * lanes_most_half;
   if (winograd_is_one(s))
      return 6;
   const Size small = winograd_time(s, 16, winograd_tiles(s, 2));
   const bool large = winograd_tiles(s, 4) >= least && winograd_fills(s, 4) && ceil_div(s.out[2], 4) <= most;
   if (large && winograd_time(s, 36, winograd_tiles(s, 4)) <= small)
      return 6;
   // A quarter faster than none, transforms included.
   const Size direct = winograd_time(s, s.taps(), s.out[1] * s.out[2]) * s.features * s.channels * 4;
   const Size with = small * (s.features * s.channels + winograd_to_few * s.channels + winograd_from_few * s.features);
   return ceil_div(s.out[2], 2) <= most && (large || (winograd_fills(s, 2) && direct >= 5 * with)) ? 4 : 0;
}

/// The tile of products for as many lines of tiles as are done at a time.
template <int Inputs, bool Short>
SOFIE_INLINE LanesTile winograd_best_tile(const ConvShape &s)
{
   const WinogradLanesPlan plan = winograd_lanes_lines<Inputs>(s, lanes_most_half, s.batch);
   return lanes_best_tile<Short>(plan.together * plan.across, s.channels < 64 ? s.channels : 64, plan.across);
}

/// Whether tiles with so many inputs along an axis pay, of which there are to be `least`, but for small ones.
template <int Inputs>
SOFIE_KERNEL bool winograd_pays(const ConvShape &s, Size least)
{
   const bool many = Inputs == 4 || winograd_tiles(s, Inputs - 2) >= least;
   return winograd_is_one(s) || (many && winograd_fills(s, Inputs - 2));
}

/// An image of any size, by the tiles that its size decides, whose transformed weights are these.
template <bool Short, class F>
SOFIE_KERNEL void convolve_winograd_open(const F &f, const ConvSizes &sizes, const float *six, const float *four,
                                         const ConvOperands<float> &of)
{
   const ConvShape s = conv_shape(sizes);
   if (s.batch <= 0 || ConvShape::product(s.out) <= 0)
      return;
   const Size inputs = winograd_choice(s, sizes.together[1]);
   const LanesTile direct = lanes_tile_of<Short>(s);
   if (inputs == 0)
      convolve_lanes(f, s, direct, of);
   else if (inputs == 6)
      convolve_winograd_lanes<6>(f, s, {winograd_best_tile<6, Short>(s), direct}, true, six, of);
   else
      convolve_winograd_lanes<4>(f, s, {winograd_best_tile<4, Short>(s), direct}, true, four, of);
}

/// `convolution_winograd` for two axes of space, with whole packs of channels, by tiles that have
/// `Inputs` inputs along an axis, 6 or 4, or, where that is 0, as many as the size of an image decides. Halves of tiles
/// of products have `Half` columns, and `Direct` where events are left to `convolution_lanes`; `Short` if the last
/// panel has 16 features. Tiles of 4 inputs are used however few there are.
template <int Inputs, int Half, int Direct, bool Short, class F, class Y, class Scratch, class Offsets, class X,
          class W, class... Added>
SOFIE_INLINE void convolution_winograd_lanes(const F &f, const ConvSizes &sizes, Y y, Scratch scratch, Offsets offsets,
                                             X x, const W &w, Added... added)
{
   const auto of = conv_operands(y, scratch, offsets, x, w, added...);
   if constexpr (Inputs > 0) {
      const ConvShape s = conv_shape(sizes);
      convolve_winograd_lanes<Inputs>(lanes_function(f), s, {lanes_tile<Half, Short>(), lanes_tile<Direct, Short>()},
                                      winograd_pays<Inputs>(s, sizes.together[1]), w.template transformed<Inputs>(),
                                      of);
   } else {
      convolve_winograd_open<Short>(lanes_function(f), sizes, w.template transformed<6>(), w.template transformed<4>(),
                                    of);
   }
}

#else

// Small tiles only pay in lanes.
template <int Inputs, int... More>
using WinogradLanesWeights = std::conditional_t<Inputs == 6, WinogradWeights<6>, ConvLanesWeights>;

template <int Inputs, int Half, int Direct, bool Short, class F, class... Arguments>
SOFIE_INLINE void convolution_winograd_lanes(const F &f, const ConvSizes &sizes, const Arguments &...arguments)
{
   if constexpr (Inputs == 4)
      convolution_lanes<Direct, Short>(f, sizes, arguments...);
   else
      convolution_winograd<6>(f, sizes, arguments...);
}

#endif

} // namespace sofie

SOFIE_END

#endif
