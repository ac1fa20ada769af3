/// \file
/// Convolutions with few channels or short rows, as products with a matrix of patches.
///
/// What a tap reads for some outputs is copied to a row of a matrix, for as many outputs as the first
/// caches keep. Then outputs follow each other without a gap whatever the strides and pads are: tiles have
/// no columns to spare, and write to y in one piece; so the loops over tiles are in assembler, too.
/// Without AVX2 this is `convolution`.
#ifndef SOFIE_KERNELS_CONVOLUTION_COLUMNS_HXX
#define SOFIE_KERNELS_CONVOLUTION_COLUMNS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/convolution.hxx"
#include "sofie/kernels/convolution/last_columns.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER

// The product --------------------------------------------------------------------------------------

/// y[m][j] = max(sum_k w[k][m] * x[k][j] + bias[m] + added[m][j], floor) for some tiles of columns j and
/// all features m, of which a panel has those of a tile. Distances are in bytes; what is below `mask` is the
/// assembler's own.
struct ConvColumnsRun {
   float *y;
   const float *added; // or none
   const float *bias, *w, *x;
   Size pitch, depth, features, stride, tiles;
   Size panel, bias_step, y_step; // from one panel to the next: of weights, of biases, of y
   float floor;
   std::int32_t mask; // the columns of the last pack
   Size left;
   const float *x_at;
   float *y_at;
   const float *added_at;
};

// clang-format off
// With AVX2 all packs are whole: registers that masks would take are sums.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_COLUMNS_BEGIN "kmovw %c[of_mask](%[of]), %%k1\n\tvbroadcastss %c[of_floor](%[of]), %%zmm31\n"
#define SOFIE_COLUMNS_LOAD(place, a) "vmovups " place "(%[x]), %%zmm" #a "\n\t"
#define SOFIE_COLUMNS_LOAD_SOME(place, a) "vmovups " place "(%[x]), %%zmm" #a "%{%%k1%}%{z%}\n\t"
#define SOFIE_COLUMNS_LOADS SOFIE_DENSE_MOVES(SOFIE_COLUMNS_LOAD, SOFIE_COLUMNS_LOAD_SOME, 24, 25, 26)
#define SOFIE_COLUMNS_RESULTS SOFIE_CONV_RESULTS(SOME)
#else
#define SOFIE_COLUMNS_BEGIN
#define SOFIE_COLUMNS_LOADS SOFIE_DENSE_LOADS("(%[x])")
#define SOFIE_COLUMNS_RESULTS "vbroadcastss %c[of_floor](%[of]), %%ymm15\n\t" SOFIE_CONV_RESULTS(WHOLE)
#endif
// clang-format on

/// For tiles of so many packs.
template <int Packs>
SOFIE_KERNEL void conv_columns_run(ConvColumnsRun run)
{
   const float *w, *x, *added;
   Size k, at;
   // For each panel, for each tile.
   // clang-format off
   asm volatile(
      SOFIE_COLUMNS_BEGIN
      "20:\n\t"
      "mov %c[of_tiles](%[of]), %[k]\n\t"
      "mov %[k], %c[of_left](%[of])\n\t"
      "mov %c[of_x](%[of]), %[x]\n\t"
      "mov %c[of_y](%[of]), %[at]\n\t"
      "mov %[at], %c[of_y_at](%[of])\n\t"
      "mov %c[of_added](%[of]), %[at]\n\t"
      "mov %[at], %c[of_added_at](%[of])\n"
      "22:\n\t"
      "mov %[x], %c[of_x_at](%[of])\n\t"
      "mov %c[of_w](%[of]), %[w]\n\t"
      "mov %c[of_pitch](%[of]), %[at]\n\t"
      "mov %c[of_depth](%[of]), %[k]\n\t"
      SOFIE_DENSE_EACH(SOFIE_DENSE_ZERO)
      ".p2align 5\n"
      "1:\n\t"
      SOFIE_COLUMNS_LOADS
      SOFIE_CONV_PRODUCTS
      "prefetcht0 2048(%[w])\n\t"
      "add $4*%c[rows], %[w]\n\t"
      "add %[at], %[x]\n\t"
      "dec %[k]\n\t"
      "jnz 1b\n\t"
      "mov %c[of_bias](%[of]), %[w]\n\t"
      "mov %c[of_y_at](%[of]), %[x]\n\t"
      "mov %c[of_added_at](%[of]), %[offsets]\n\t"
      "mov %c[of_stride](%[of]), %[k]\n\t"
      "mov %c[of_features](%[of]), %[at]\n\t"
      SOFIE_COLUMNS_RESULTS
      "6:\n\t"
      "addq $" SOFIE_PACK_BYTES "*%c[packs], %c[of_y_at](%[of])\n\t"
      "cmpq $0, %c[of_added](%[of])\n\t"
      "je 7f\n\t"
      "addq $" SOFIE_PACK_BYTES "*%c[packs], %c[of_added_at](%[of])\n"
      "7:\n\t"
      "mov %c[of_x_at](%[of]), %[x]\n\t"
      "add $" SOFIE_PACK_BYTES "*%c[packs], %[x]\n\t"
      "decq %c[of_left](%[of])\n\t"
      "jnz 22b\n\t"
      "mov %c[of_panel](%[of]), %[k]\n\t"
      "add %[k], %c[of_w](%[of])\n\t"
      "mov %c[of_bias_step](%[of]), %[k]\n\t"
      "add %[k], %c[of_bias](%[of])\n\t"
      "mov %c[of_y_step](%[of]), %[k]\n\t"
      "add %[k], %c[of_y](%[of])\n\t"
      "cmpq $0, %c[of_added](%[of])\n\t"
      "je 8f\n\t"
      "add %[k], %c[of_added](%[of])\n"
      "8:\n\t"
      "subq $%c[rows], %c[of_features](%[of])\n\t"
      "jg 20b\n\t"
      : [w] "=&r"(w), [x] "=&r"(x), [offsets] "=&r"(added), [k] "=&r"(k), [at] "=&r"(at)
      : [of] "r"(&run),
        SOFIE_MEMBERS(of, ConvColumnsRun, y, added, bias, w, x, pitch, depth, features, stride, tiles, panel,
           bias_step, y_step, floor, mask, left, x_at, y_at, added_at),
        [packs] "i"(Packs), [rows] "i"(dense_tile_rows)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}

/// For `columns` columns, of which AVX2 has whole packs only: tiles of three packs, and one for what is left.
SOFIE_KERNEL inline void conv_columns_product(ConvColumnsRun run, Size columns)
{
   constexpr Size n = lanes<float>;
   run.tiles = columns / (3 * n);
   run.mask = 0xffff;
   if (run.tiles > 0)
      conv_columns_run<3>(run);
   const Size done = run.tiles * 3 * n, rest = columns - done;
   if (rest <= 0)
      return;
   run.y += done;
   run.x += done;
   run.added = run.added ? run.added + done : nullptr;
   run.tiles = 1;
   run.mask = (1 << ((rest - 1) % n + 1)) - 1;
   if (rest > 2 * n)
      conv_columns_run<3>(run);
   else if (rest > n)
      conv_columns_run<2>(run);
   else
      conv_columns_run<1>(run);
}

// The matrix ---------------------------------------------------------------------------------------

/// Some outputs of an event that follow each other: `lines` lines of `width` outputs from `column` on; only
/// whole lines are more than one.
struct ConvColumnsPart {
   Size line, lines, column, width;
};

/// For each tap along a row which inputs of each pack exist: as many as it has outputs, or twice as many, of which each
/// second one is read.
SOFIE_KERNEL inline void conv_columns_masks(const ConvShape &s, const ConvColumnsPart &part, Size *masks)
{
   const Size step = s.strides[2] * lanes<float>, reach = part.width * s.strides[2];
   for (Size k = 0; k < s.kernel[2]; ++k) {
      const Size left = part.column * s.strides[2] + k * s.dilations[2] - s.pads[2];
      const Size end = s.in[2] - left < reach ? s.in[2] - left : reach;
      for (Size at = 0; at < reach; at += step)
         *masks++ = conv_fill_bits(-left - at, (end < at + step ? end - at : step));
   }
}

/// The rows of the matrix for a part, `pitch` elements apart.
template <int Stride>
SOFIE_KERNEL void conv_columns_matrix(const ConvShape &s, const ConvColumnsPart &part, float *to, Size pitch,
                                      const float *x, const Size *masks)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float));
   const Size packs = ceil_div(part.width, lanes<float>), plane = s.in[1] * s.in[2];
   const Size left = part.column * Stride - s.pads[2], taps = s.kernel[2];
   const Size to_channel = (s.taps() - taps) * pitch * bytes, tap = s.dilations[2] * bytes;
   for (Size d = 0; d < s.kernel[0]; ++d)
      for (Size h = 0; h < s.kernel[1]; ++h, to += pitch * taps) {
         float *at = to;
         // Lines of one place along depth at a time.
         for (Size line = part.line, some; line < part.line + part.lines; line += some, at += some * part.width) {
            const Size out = s.out[0] == 1 ? 0 : line / s.out[1], first = line - out * s.out[1];
            const Size rest = part.line + part.lines - line, height = s.out[1] - first;
            some = rest < height ? rest : height;
            const Size depth = out * s.strides[0] + d * s.dilations[0] - s.pads[0];
            const Size top = first * s.strides[1] + h * s.dilations[1] - s.pads[1];
            const bool exists = depth >= 0 && depth < s.in[0];
            const Size above = exists ? conv_below(top, s.strides[1], some, 0) : some;
            const Size end = exists ? conv_below(top, s.strides[1], some, s.in[1]) : some;
            const Size row = top + above * s.strides[1];
            conv_fill_rows<Stride>({at, end > above ? x + depth * plane + row * s.in[2] + left : x, masks, taps, above,
                                    end - above, some - end, packs, pitch * bytes, tap, part.width * bytes,
                                    s.strides[1] * s.in[2] * bytes, s.channels, to_channel,
                                    s.in_channel * bytes - taps * tap, 0});
         }
      }
}

// What operators call ------------------------------------------------------------------------------

/// How many products are summed in registers at a time; where channels are so long that each is in another page of
/// memory, no more than a CPU knows pages.
inline constexpr Size conv_columns_depth = 256, conv_columns_pages = 64, conv_columns_far = 512;
/// The elements of a line of the cache: rows of the matrix are an odd number of them apart.
inline constexpr Size conv_columns_line = 16;

/// What is summed in registers at a time, of a matrix whose rows are `pitch` elements apart.
SOFIE_INLINE Size conv_columns_steps(const ConvShape &s, Size pitch)
{
   const Size most = s.is_pointwise() && pitch >= conv_columns_far ? conv_columns_pages : conv_columns_depth;
   return ceil_div(s.depth(), ceil_div(s.depth(), most));
}

/// The products of a part with the matrix x.
template <class F>
SOFIE_KERNEL void conv_columns_results(const F &f, const ConvShape &s, Size columns, float *y,
                                       StridedRows<const float> x, const float *panels, const float *bias,
                                       const float *added)
{
   const Size pitch = x.stride;
   constexpr Size bytes = static_cast<Size>(sizeof(float)), rows = dense_tile_rows;
   const float zeros[rows] = {};
   const Size depth = s.depth(), stride = s.out_channel * bytes, part = conv_columns_steps(s, pitch);
   const Size few = columns % lanes<float> <= conv_last_most ? columns % lanes<float> : 0, most = columns - few;
   for (Size k = 0; most > 0 && k < depth; k += part) {
      // What is summed so far is added to the rest.
      const bool last = k + part >= depth, biased = last && bias;
      conv_columns_product({y, k > 0 ? y : added, biased ? bias : zeros, panels + k * rows, x.data + k * pitch,
                            pitch * bytes, last ? depth - k : part, s.features, stride, 0, depth * rows * bytes,
                            biased ? rows * bytes : 0, rows * stride, last ? conv_floor<F> : -__builtin_inff(), 0, 0,
                            nullptr, nullptr, nullptr},
                           most);
   }
   if (few > 0)
      conv_last_columns_product({y + most, added ? added + most : nullptr, bias, s.out_channel, conv_floor<F>},
                                {panels, x.data + most, depth * rows * bytes, pitch * bytes, depth, part, s.features},
                                {1, few, 0, 0});
   if constexpr (!is_in_tile<F>)
      conv_apply_rows(f, y, s.features, s.out_channel, columns);
}

/// All events of points, of which each has a few columns.
template <class F>
SOFIE_KERNEL void convolve_few_points(const F &f, const ConvShape &s, const ConvOperands<float> &of)
{
   constexpr Size bytes = static_cast<Size>(sizeof(float)), rows = dense_tile_rows;
   const Size columns = s.out_channel, depth = s.depth();
   conv_last_columns_product(
      {of.y, of.added, of.bias, columns, conv_floor<F>},
      {of.w, of.x, depth * rows * bytes, columns * bytes, depth, conv_columns_steps(s, columns), s.features},
      {s.batch, columns, s.in_event, s.out_event});
   if constexpr (!is_in_tile<F>)
      conv_apply_rows(f, of.y, s.batch * s.features, columns, columns);
}

template <int Stride, class F>
SOFIE_KERNEL void convolve_columns(const F &f, const ConvShape &s, const Sizes<2> &together,
                                   const ConvOperands<float> &of)
{
   auto [y, scratch, offsets, x, panels, bias, added] = of;

   Size *const masks = reinterpret_cast<Size *>(offsets);
   const Size width = together[1], lines = s.out[0] * s.out[1];
   const bool inside = s.is_pointwise();
   if (inside && lines * s.out[2] <= conv_last_most)
      return convolve_few_points(f, s, of);
   if (!inside && width == s.out[2])
      conv_columns_masks(s, {0, 1, 0, width}, masks);
   for (Size event = 0; event < s.batch; ++event, x += s.in_event)
      for (Size line = 0; line < lines; line += together[0])
         for (Size column = 0; column < s.out[2]; column += width) {
            const Size rest = lines - line, across = s.out[2] - column;
            const ConvColumnsPart part{line, rest < together[0] ? rest : together[0], column,
                                       across < width ? across : width};
            const Size columns = part.lines * part.width, at = event * s.out_event + line * s.out[2] + column;
            const float *from = x + line * s.out[2] + column;
            Size pitch = s.in_channel;
            if (!inside) {
               if (width != s.out[2])
                  conv_columns_masks(s, part, masks);
               pitch = ((ceil_div(columns, conv_columns_line) + 1) | 1) * conv_columns_line;
               conv_columns_matrix<Stride>(s, part, scratch, pitch, x, masks);
               from = scratch;
            }
            conv_columns_results(f, s, columns, y + at, {from, pitch}, panels, bias, added ? added + at : nullptr);
         }
}

/// y = f(convolution(x, w) + b + added) with constant weights, one group and a stride along rows of 1 or 2; `together`
/// are lines of the output, and their columns; `added` may be absent.
template <int Stride, class F, class... Operands>
SOFIE_INLINE void convolution_columns(const F &f, const ConvSizes &sizes, const Operands &...operands)
{
   convolve_columns<Stride>(f, conv_plain_shape(sizes), sizes.together, conv_operands(operands...));
}

#else

template <int Stride, class F, class... Arguments>
SOFIE_INLINE void convolution_columns(const F &f, const ConvSizes &sizes, const Arguments &...arguments)
{
   convolution<8>(f, sizes, arguments...);
}

#endif

} // namespace sofie

SOFIE_END

#endif
