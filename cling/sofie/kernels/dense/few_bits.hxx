/// \file
/// Dense layers that read their weights in few bits: for one row that is what takes the time where
/// they do not fit into a near cache.
///
/// A weight is widened to the float that it is before it is multiplied, in the order of `dense`: the
/// results are those of a `DenseWeights<float>` of the same numbers, to the last bit. Many rows read
/// weights that were widened when they were loaded, or three packs of columns at a time.
#ifndef SOFIE_KERNELS_DENSE_FEW_BITS_HXX
#define SOFIE_KERNELS_DENSE_FEW_BITS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense.hxx"
#include "sofie/session/narrow.hxx"

SOFIE_BEGIN

namespace sofie {

/// How a row of a panel of `width` packs lies in memory: pack by pack, and for the assembler bfloat16 two
/// packs in turn, number by number, so that 32 bits have one of each.
template <class Q>
struct NarrowRow {
   static Size at(Size column, Size) { return column; }
};
#ifdef SOFIE_AVX512_ASSEMBLER
template <>
struct NarrowRow<BFloat16> {
   static Size at(Size column, Size width)
   {
      constexpr Size n = lanes<float>;
      const Size pack = column / n, lane = column % n, pair = pack / 2;
      return 2 * pair + 1 < width ? pair * 2 * n + 2 * lane + pack % 2 : pack * n + lane;
   }
};
#endif

/// Whether a row reads weights in few bits, and whether they are held as floats, for many rows. In assembler it
/// pays as soon as somebody asks for it, and floats that come from the second cache save a tenth of the time for
/// many rows; with AVX2 it pays where a layer fills that cache, without it nowhere.
template <Size K, Size N>
inline constexpr Size wide_bytes = K * N * Size{sizeof(float)};
#ifdef SOFIE_AVX512_ASSEMBLER
template <Size K, Size N>
inline constexpr bool is_read_narrow = true;
template <Size K, Size N>
inline constexpr bool is_held_wide = wide_bytes<K, N> <= Size{1} << 20;
#else
template <Size K, Size N>
inline constexpr bool is_read_narrow = SOFIE_SIMD_BYTES == 32 && wide_bytes<K, N> >= Size{1} << 19;
template <Size K, Size N>
inline constexpr bool is_held_wide = true;
#endif

struct NothingWide {
   template <class V, class W>
   NothingWide(const V &, const W &)
   {
   }
};
template <Size K, Size N>
using WideToo = std::conditional_t<is_held_wide<K, N>, DenseWeights<float, K, N>, NothingWide>;

/// The floats that weights in few bits are, or none if nobody wants them.
template <class V, bool Wanted>
struct WidenedIf {
   Widened<V> floats;
   template <class... S>
   explicit WidenedIf(const S &...stored) : floats(stored...)
   {
   }
   SOFIE_INLINE V view() const { return floats.view(); }
};
template <class V>
struct WidenedIf<V, false> {
   template <class... S>
   explicit WidenedIf(const S &...)
   {
   }
   SOFIE_INLINE V view() const { return V(nullptr); }
};

/// W[K, N] and b[N] as a `DenseWeights<float>` has them, but with W in few bits; of int8 with a scale for
/// each column.
template <class Q, Size K, Size N>
class NarrowWeights : public WideToo<K, N> {
   using S = DenseShape<float, N>;
   using Wide = WidenedIf<View<const float, K, N>, is_held_wide<K, N>>;
   static_assert(S::chains == 1, "layers of few columns have another order of summation");
   static constexpr Size columns = S::width * lanes<float>;
   Buffer<Q> panels_;
   Buffer<float> bias_;
   Buffer<float> scales_;

   void pack(View<const Q, K, N> w, View<const float, N> b)
   {
      panels_ = Buffer<Q>(S::panels * K * columns + 2 * lanes<float>);
      bias_ = Buffer<float>(S::panels * columns);
      for (Size k = 0; k < K; ++k)
         for (Size j = 0; j < N; ++j)
            panels_.data()[(j / columns * K + k) * columns + NarrowRow<Q>::at(j % columns, S::width)] =
               w.data()[k * N + j];
      __builtin_memcpy(bias_.data(), b.data(), static_cast<std::size_t>(N) * sizeof(float));
   }

public:
   NarrowWeights(View<const Q, K, N> w, View<const float, N> b) : WideToo<K, N>(Wide(w).view(), b)
   {
      if constexpr (is_read_narrow<K, N>)
         pack(w, b);
   }
   NarrowWeights(View<const Q, K, N> w, View<const float, N> scales, View<const float, N> b)
      : WideToo<K, N>(Wide(w, scales, Size{1}).view(), b)
   {
      if constexpr (!is_read_narrow<K, N>)
         return;
      pack(w, b);
      scales_ = Buffer<float>(S::panels * columns);
      __builtin_memcpy(scales_.data(), scales.data(), static_cast<std::size_t>(N) * sizeof(float));
   }
   SOFIE_INLINE const Q *narrow_panel(Size p) const { return panels_.data() + p * K * columns; }
   SOFIE_INLINE const float *narrow_bias(Size p) const { return bias_.data() + p * columns; }
   /// Null where there are none.
   SOFIE_INLINE const float *scales(Size p) const { return scales_.size() ? scales_.data() + p * columns : nullptr; }
};

#ifdef SOFIE_AVX512_ASSEMBLER

// clang-format off
// Two packs of columns, or the last one: zmm30 has the upper halves of lanes, zmm31 a number of x.
#define SOFIE_NARROW_PAIRS                                     \
   ".if \\a & 1\n\t"                                           \
   "vpandd %%zmm14, %%zmm30, %%zmm14\n\t"                      \
   "vfmadd231ps %%zmm14, %%zmm31, %%zmm\\a\n\t"                \
   ".elseif \\a+1 < %c[packs]\n\t"                             \
   "vmovups (\\a/2)*64(%[w]), %%zmm14\n\t"                     \
   "vpslld $16, %%zmm14, %%zmm15\n\t"                          \
   "vfmadd231ps %%zmm15, %%zmm31, %%zmm\\a\n\t"                \
   ".else\n\t"                                                 \
   "vpmovzxwd (\\a/2)*64(%[w]), %%zmm14\n\t"                   \
   "vpslld $16, %%zmm14, %%zmm14\n\t"                          \
   "vfmadd231ps %%zmm14, %%zmm31, %%zmm\\a\n\t"                \
   ".endif\n\t"
#define SOFIE_NARROW_HALVES                                    \
   "vcvtph2ps \\a*32(%[w]), %%zmm14\n\t"                       \
   "vfmadd231ps %%zmm14, %%zmm31, %%zmm\\a\n\t"
#define SOFIE_NARROW_BYTES                                     \
   "vpmovsxbd \\a*16(%[w]), %%zmm14\n\t"                       \
   "vcvtdq2ps %%zmm14, %%zmm14\n\t"                            \
   "vmulps \\a*64(%[scales]), %%zmm14, %%zmm14\n\t"            \
   "vfmadd231ps %%zmm14, %%zmm31, %%zmm\\a\n\t"

// `products` of a number of x and a row of w.
#define SOFIE_NARROW_ROW(products)                                                                                    \
   asm volatile(                                                                                                      \
      SOFIE_ROW_ZERO("%c[packs]")                                                                                     \
      "vpternlogd $255, %%zmm30, %%zmm30, %%zmm30\n\t"                                                                \
      "vpslld $16, %%zmm30, %%zmm30\n\t"                                                                              \
      ".p2align 5\n"                                                                                                  \
      "1:\n\t"                                                                                                        \
      "vbroadcastss (%[x]), %%zmm31\n\t"                                                                              \
      SOFIE_ROW_EACH("%c[packs]", products)                                                                           \
      "add $4, %[x]\n\t"                                                                                              \
      "add %[next], %[w]\n\t"                                                                                         \
      "dec %[k]\n\t"                                                                                                  \
      "jnz 1b\n\t"                                                                                                    \
      "mov %c[end_y](%[end]), %[x]\n\t"                                                                               \
      SOFIE_ROW_END                                                                                                   \
      : [x] "+&r"(x), [w] "+&r"(w), [k] "+&r"(depth)                                                                  \
      : [scales] "r"(scales), [end] "r"(&end),                                                                        \
        SOFIE_MEMBERS(end, DenseTileEnd, y, bias, mask, relu),                                                        \
        [packs] "i"(Packs), [next] "i"(Packs * 16 * sizeof(Q))                                                        \
      : "memory", "cc", "k1", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm27", "xmm30", "xmm31")
// clang-format on

/// y[j] = sum_k x[k] * w[k][j] for `Packs` packs of columns and at least one k.
template <int Packs, class Q>
SOFIE_KERNEL void narrow_row(const float *x, const Q *w, const float *scales, Size depth, const DenseTileEnd &end)
{
   static_assert(Packs >= 6 && Packs <= 14, "what is narrower has several chains");
   if constexpr (std::is_same_v<Q, BFloat16>)
      SOFIE_NARROW_ROW(SOFIE_NARROW_PAIRS);
   else if constexpr (std::is_same_v<Q, Float16>)
      SOFIE_NARROW_ROW(SOFIE_NARROW_HALVES);
   else
      SOFIE_NARROW_ROW(SOFIE_NARROW_BYTES);
}

/// One row of y, for a panel.
template <class F, class Q, Size K, Size N>
SOFIE_INLINE void narrow_alone(const F &f, float *y, const float *x, const NarrowWeights<Q, K, N> &w, Size panel)
{
   using S = DenseShape<float, N>;
   constexpr int width = static_cast<int>(S::width);
   constexpr Size n = lanes<float>, whole = (width - 1) * n;
   // Of the last panel there may be less than the tile computes.
   constexpr bool direct = is_in_tile<F> && N - (S::panels - 1) * width * n > whole;
   alignas(64) float sums[direct ? 1 : width * n];
   const Size column = panel * width * n, count = N - column < width * n ? N - column : width * n;
   const Size last = direct ? count - whole : n;
   narrow_row<width>(x, w.narrow_panel(panel), w.scales(panel), K,
                     DenseTileEnd{sums, direct ? y + column : sums, 0, w.narrow_bias(panel), (Size{1} << last) - 1, 0,
                                  std::is_same_v<F, Relu>});
   if constexpr (is_in_tile<F> && !direct)
      __builtin_memcpy(y + column, sums, static_cast<std::size_t>(count) * sizeof(float));
   else if constexpr (!direct)
      apply_function(f, y + column, sums, count);
}

/// The weights of a layer with all that is known when it runs.
template <class Q>
struct NarrowLayer {
   const Q *weights;
   const float *scales;
   DenseLayer shape; // Whose weights are widened ones, if any.
};

// clang-format off
#define SOFIE_NARROW_WIDEN(converted)                                               \
   asm volatile(                                                                    \
      "vpternlogd $255, %%zmm30, %%zmm30, %%zmm30\n\t"                              \
      "vpslld $16, %%zmm30, %%zmm30\n\t"                                            \
      ".p2align 5\n"                                                                \
      "1:\n\t"                                                                      \
      converted                                                                     \
      "vmovups %%zmm14, (%[to])\n\t"                                               \
      "add %[next], %[w]\n\t"                                                      \
      "add %[step], %[to]\n\t"                                                     \
      "dec %[k]\n\t"                                                               \
      "jnz 1b\n\t"                                                                 \
      : [w] "+&r"(from), [to] "+&r"(to), [k] "+&r"(depth)                           \
      : [next] "r"(next), [step] "r"(step), [scales] "r"(scales)                    \
      : "memory", "cc", "xmm14", "xmm30")
// clang-format on

/// One pack of columns of a panel of `width` packs as floats, `step` bytes apart, for at least one k.
template <class Q>
SOFIE_KERNEL void widen_pack(float *to, Size step, const Q *panel, const float *scales, Size width, Size pack,
                             Size depth)
{
   constexpr Size n = lanes<float>;
   const Size next = width * n * Size{sizeof(Q)};
   const Q *from = panel + pack * n;
   if constexpr (std::is_same_v<Q, BFloat16>) {
      if (pack + 1 == width && width % 2 == 1) {
         SOFIE_NARROW_WIDEN("vpmovzxwd (%[w]), %%zmm14\n\tvpslld $16, %%zmm14, %%zmm14\n\t");
      } else if (pack % 2 == 0) {
         SOFIE_NARROW_WIDEN("vpslld $16, (%[w]), %%zmm14\n\t");
      } else {
         from -= n;
         SOFIE_NARROW_WIDEN("vpandd (%[w]), %%zmm30, %%zmm14\n\t");
      }
   } else if constexpr (std::is_same_v<Q, Float16>) {
      SOFIE_NARROW_WIDEN("vcvtph2ps (%[w]), %%zmm14\n\t");
   } else {
      scales += pack * n;
      SOFIE_NARROW_WIDEN("vpmovsxbd (%[w]), %%zmm14\n\tvcvtdq2ps %%zmm14, %%zmm14\n\t"
                         "vmulps (%[scales]), %%zmm14, %%zmm14\n\t");
   }
}

/// The packs `first`, `first + 1`, ... of a panel as floats, row after row.
template <class Q>
SOFIE_KERNEL void widen_stripe(float *to, const Q *panel, const float *scales, Size width, Size first, Size packs,
                               Size depth)
{
   constexpr Size n = lanes<float>;
   for (Size j = 0; j < packs; ++j)
      widen_pack(to + j * n, packs * n * Size{sizeof(float)}, panel, scales, width, first + j, depth);
}

/// As `dense_stripe`, but with the widened weights of these columns alone.
template <int Packs>
SOFIE_KERNEL void narrow_stripe(const DenseLayer &layer, float *y, const float *x, Size m, Size column)
{
   constexpr Size n = lanes<float>;
   alignas(64) float sums[dense_tile_rows * dense_tile_width];
   const Size left = layer.columns - column;
   const Size last_mask = left < Packs * n ? (Size{1} << (left - (Packs - 1) * n)) - 1 : 0xffff;
   DenseTileEnd end{sums, nullptr, layer.columns * Size{sizeof(float)}, layer.bias + column, last_mask, 0, layer.relu};
   for (Size i = 0; i < m; i += dense_tile_rows) {
      // The last rows: once more with rows that are done already, which gives them the same values.
      const Size row = i + dense_tile_rows <= m ? i : m - dense_tile_rows;
      end.y = y + row * layer.columns + column;
      dense_tile_assembler<Packs>(x + row * layer.depth, layer.depth, 1, layer.weights, Packs * n, layer.depth, end);
   }
}

/// All rows, at least 8, of all columns of y; `wide` has place for three packs of columns.
template <class Q>
SOFIE_KERNEL void narrow_stripes(const NarrowLayer<Q> &narrow, float *wide, float *y, const float *x, Size m)
{
   constexpr Size n = lanes<float>;
   DenseLayer layer = narrow.shape;
   layer.weights = wide;
   for (Size panel = 0; panel < layer.columns; panel += layer.width) {
      const Size left = layer.columns - panel, packs = ceil_div(left < layer.width ? left : layer.width, n);
      for (Size first = 0; first < packs;) {
         const Size rest = packs - first, count = rest == 1 ? 1 : rest == 2 || rest == 4 ? 2 : 3;
         widen_stripe(wide, narrow.weights + panel * layer.depth, narrow.scales ? narrow.scales + panel : nullptr,
                      layer.width / n, first, count, layer.depth);
         if (count == 1)
            narrow_stripe<1>(layer, y, x, m, panel + first * n);
         else if (count == 2)
            narrow_stripe<2>(layer, y, x, m, panel + first * n);
         else
            narrow_stripe<3>(layer, y, x, m, panel + first * n);
         first += count;
      }
   }
}

/// Memory for three packs of columns: on the stack, if that is not much.
template <Size Count, bool Small>
struct StripeMemory {
   alignas(64) float floats[static_cast<std::size_t>(Count)];
   SOFIE_INLINE float *data() { return floats; }
};
template <Size Count>
struct StripeMemory<Count, false> {
   Buffer<float> floats = Buffer<float>(Count);
   SOFIE_INLINE float *data() { return floats.data(); }
};

/// y = f(x @ w + b) for at least 8 rows, of which so many go together that f finds them in a near cache.
template <class F, class Q, Size K, Size N>
SOFIE_INLINE void narrow_many(const F &f, float *y, const float *x, Size m, const NarrowWeights<Q, K, N> &w)
{
   using S = DenseShape<float, N>;
   StripeMemory<K * dense_tile_width, K <= 512> memory;
   const NarrowLayer<Q> layer{
      w.narrow_panel(0), w.scales(0),
      DenseLayer{nullptr, w.narrow_bias(0), K, N, S::width * lanes<float>, 1, std::is_same_v<F, Relu>}};
   if constexpr (is_in_tile<F>) {
      narrow_stripes(layer, memory.data(), y, x, m);
   } else {
      for (Size i = 0; i < m;) {
         const Size rows = m - i < 2 * dense_many_rows ? m - i : dense_many_rows;
         narrow_stripes(layer, memory.data(), y + i * N, x + i * K, rows);
         apply_function(f, y + i * N, y + i * N, rows * N);
         i += rows;
      }
   }
}

/// y[m, n] = f(sum_k x[m, k] * w[k, n] + b[n]), where w is in few bits
template <class F, class Q, Size M, Size K, Size N>
SOFIE_KERNEL void dense(const F &f, View<float, M, N> y, View<const float, M, K> x, const NarrowWeights<Q, K, N> &w)
{
   const Size m = x.template extent<0>();
   if (M == 1 || m < dense_tile_rows) {
      for (Size i = 0; i < m; ++i)
         for (Size p = 0; p < DenseShape<float, N>::panels; ++p)
            narrow_alone(f, y.data() + i * N, x.data() + i * K, w, p);
      return;
   }
   if constexpr (M != 1 && is_held_wide<K, N>) {
      const DenseWeights<float, K, N> &wide = w;
      dense(f, y, x, wide);
   } else if constexpr (M != 1) {
      narrow_many(f, y.data(), x.data(), m, w);
   }
}

#else

/// sum[j] += x * w[j]
template <int Packs, class Q>
SOFIE_INLINE void narrow_step(float x, const Q *w, const float *scales, Pack<float> (&sum)[Packs])
{
   constexpr int n = lanes<float>;
   SOFIE_UNROLL_ALL
   for (int j = 0; j < Packs; ++j) {
      Pack<float> row = load_widened<n>(w + j * n);
      if constexpr (!is_stored<Q>)
         row *= load<n>(scales + j * n);
      sum[j] = accumulate(sum[j], x, row);
   }
}

/// y[j] = f(sum_k x[k] * w[k][j] + b[j]) for the `count` columns of a panel of `Packs` packs that exist.
template <int Packs, class F, class Q>
SOFIE_KERNEL void
narrow_row(const F &f, float *y, const float *x, const Q *w, const float *scales, Size depth, const float *b, Size count)
{
   constexpr int n = lanes<float>, length = 64 / Packs;
   alignas(64) float sums[Packs * n];
   Pack<float> sum[Packs];
   SOFIE_UNROLL_ALL
   for (int j = 0; j < Packs; ++j)
      sum[j] = Pack<float>{};
   Size k = 0;
   for (; k + length <= depth; k += length, w += length * Packs * n)
      SOFIE_UNROLL_ALL
      for (int step = 0; step < length; ++step)
         narrow_step<Packs>(x[k + step], w + step * Packs * n, scales, sum);
   for (; k < depth; ++k, w += Packs * n)
      narrow_step<Packs>(x[k], w, scales, sum);
   SOFIE_UNROLL_ALL
   for (int j = 0; j < Packs; ++j)
      store(sums + j * n, sum[j]);
   dense_row(f, y, sums, b, count);
}

/// y[m, n] = f(sum_k x[m, k] * w[k, n] + b[n]), where w is in few bits; many rows read floats.
template <class F, class Q, Size M, Size K, Size N>
SOFIE_KERNEL void dense(const F &f, View<float, M, N> y, View<const float, M, K> x, const NarrowWeights<Q, K, N> &w)
{
   using S = DenseShape<float, N>;
   constexpr int width = static_cast<int>(S::width);
   constexpr Size columns = width * lanes<float>;
   const DenseWeights<float, K, N> &wide = w;
   const Size m = x.template extent<0>();
   if constexpr (is_read_narrow<K, N>) {
      for (Size i = 0; m < dense_together<float, K, N> && i < m; ++i)
         for (Size p = 0; p < S::panels; ++p) {
            const Size column = p * columns, count = N - column < columns ? N - column : columns;
            narrow_row<width>(f, y.data() + i * N + column, x.data() + i * K, w.narrow_panel(p), w.scales(p), K,
                              w.narrow_bias(p), count);
         }
      if (m < dense_together<float, K, N>)
         return;
   }
   dense(f, y, x, wide);
}

#endif

/// Layers whose weights would be packed for another kernel, were they not in few bits.
template <class F, class Q, Size M, Size K, Size N>
SOFIE_INLINE void dense_streamed(const F &f, View<float, M, N> y, View<const float, M, K> x,
                                 const NarrowWeights<Q, K, N> &w)
{
   dense(f, y, x, w);
}

} // namespace sofie

SOFIE_END

#endif
