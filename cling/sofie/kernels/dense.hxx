/// \file
/// Products with weights, which are packed for them.
///
/// They are made of one register tile: Rows x Packs accumulators that stay in registers
/// while k runs, one broadcast of x and Packs loads of w for each k. Every element of the result
/// is summed in an order that depends on the shape of w alone, so it is the same to the last bit
/// whether a row is computed by itself or in a batch.
#ifndef SOFIE_KERNELS_DENSE_HXX
#define SOFIE_KERNELS_DENSE_HXX

#include "sofie/kernels/dense/rows_tile.hxx"
#include "sofie/kernels/elementwise/map.hxx"
#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

// Functions that tiles in assembler know.
struct Relu;

/// The smallest multiple of `to` that is not below `size`, divided by `to`.
constexpr Size ceil_div(Size size, Size to)
{
   return (size + to - 1) / to;
}

/// sum + x * row; integers wrap.
template <class V>
SOFIE_INLINE V accumulate(V sum, ElementOf<V> x, V row)
{
   if constexpr (std::is_floating_point_v<ElementOf<V>>)
      return multiply_add(splat<V>(x), row, sum);
   else
      return plus(sum, times(splat<V>(x), row));
}

/// sum[r][j] += x[r] * w[j]
template <int Rows, int Packs, class T>
SOFIE_INLINE void tile_step(const T *__restrict x, Size x_stride, const T *__restrict w, Pack<T> (&sum)[Rows][Packs])
{
   constexpr int n = lanes<T>;
   Pack<T> row[Packs];
   SOFIE_UNROLL_ALL
   for (int j = 0; j < Packs; ++j)
      row[j] = load<n>(w + j * n);
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j)
         sum[r][j] = accumulate(sum[r][j], x[r * x_stride], row[j]);
   end_step(sum);
}

/// How many steps of k a tile takes between two looks at its loop counter. Long blocks matter: at
/// the end of each one Cling's register allocator writes all accumulators to memory.
constexpr int block_length(Size depth, int products, int chains)
{
   const int most = products >= 20 ? 32 : 530 / products;
   if (depth != dyn && depth <= most + most / 4)
      return depth > 0 ? static_cast<int>(depth) : chains;
   for (int length = most / chains * chains; depth != dyn && 2 * length >= most; length -= chains)
      if (depth % length == 0)
         return length;
   return most / chains * chains;
}

/// sums[r][j] = sum_k x[r][k] * w[k][j], for `Rows` rows of x and `Packs` packs of columns of w.
/// `Chains` partial sums a element run side by side, to hide the latency of additions; step k
/// belongs to chain k % Chains. `Depth` is the number of steps where that is known, else `dyn`.
template <int Rows, int Packs, int Chains, Size Depth, class T>
SOFIE_INLINE void
tile(const T *__restrict x, Size x_stride, const T *__restrict w, Size w_stride, Size depth, T *__restrict sums)
{
   static_assert(Depth != dyn || Chains == 1, "the chain of a step is known when it is compiled");
   constexpr int n = lanes<T>;
   constexpr int length = block_length(Depth, Rows * Packs, Chains);
   using V = Pack<T>;
   V sum[Chains][Rows][Packs];
   SOFIE_UNROLL_ALL
   for (int c = 0; c < Chains; ++c)
      SOFIE_UNROLL_ALL
      for (int r = 0; r < Rows; ++r)
         SOFIE_UNROLL_ALL
         for (int j = 0; j < Packs; ++j)
            sum[c][r][j] = V{};
   Size k = 0;
   for (; k + length <= depth; k += length) {
      SOFIE_UNROLL_ALL
      for (int step = 0; step < length; ++step)
         tile_step<Rows, Packs>(x + k + step, x_stride, w + (k + step) * w_stride, sum[step % Chains]);
   }
   if constexpr (Depth == dyn) {
      for (; k < depth; ++k)
         tile_step<Rows, Packs>(x + k, x_stride, w + k * w_stride, sum[0]);
   } else {
      constexpr int rest = static_cast<int>(Depth % length);
      SOFIE_UNROLL_ALL
      for (int step = 0; step < rest; ++step)
         tile_step<Rows, Packs>(x + k + step, x_stride, w + (k + step) * w_stride, sum[step % Chains]);
   }
   SOFIE_UNROLL_ALL
   for (int r = 0; r < Rows; ++r)
      SOFIE_UNROLL_ALL
      for (int j = 0; j < Packs; ++j) {
         V total = sum[0][r][j];
         SOFIE_UNROLL_ALL
         for (int c = 1; c < Chains; ++c)
            total += sum[c][r][j];
         store(sums + (r * Packs + j) * n, total);
      }
}

/// How a weight matrix with `K` rows and `N` columns is cut: panels of `width` packs of columns,
/// each stored row after row, so that a pass over k reads memory in order.
template <class T, Size N>
struct DenseShape {
   static constexpr Size packs = ceil_div(N, lanes<T>);
   /// The most packs that one row of accumulators may have, out of 32 registers (16 with AVX2).
#ifdef SOFIE_AVX2_ASSEMBLER
   static constexpr Size most = std::is_same_v<T, float> ? 12 : 8;
#else
   static constexpr Size most = SOFIE_SIMD_BYTES == 64 ? 14 : SOFIE_SIMD_BYTES == 32 ? 8 : 12;
#endif
   static constexpr Size panels = ceil_div(packs, most);
   static constexpr Size width = ceil_div(packs, panels);
   static constexpr int chains = width >= 6 ? 1 : width >= 3 ? 2 : width == 2 ? 4 : 8;
};

/// W[K, N] as panels of so many columns, in which so many rows lie one after the other: one function for all layers.
template <class T>
SOFIE_ONCE void dense_pack(T *panels, const T *w, Size K, Size N, Size rows, Size columns)
{
   for (Size first = 0; first < N; first += columns, panels += rows * columns) {
      const Size count = N - first < columns ? N - first : columns;
      for (Size k = 0; k < K; ++k)
         __builtin_memcpy(panels + k * columns, w + k * N + first, static_cast<std::size_t>(count) * sizeof(T));
   }
}

/// W[K, N] and b[N], packed for `dense`.
template <class T, Size K, Size N>
class DenseWeights {
   using S = DenseShape<T, N>;
   static constexpr Size columns = S::width * lanes<T>;
   Buffer<T> panels_;
   Buffer<T> bias_;

public:
   using Element = T;
   DenseWeights(View<const T, K, N> w, View<const T, N> b)
      : panels_(S::panels * K * columns + lanes<T>), bias_(S::panels * columns)
   {
      dense_pack(panels_.data(), w.data(), K, N, K, columns);
      __builtin_memcpy(bias_.data(), b.data(), static_cast<std::size_t>(N) * sizeof(T));
   }
   SOFIE_INLINE T weight(Size k, Size j) const { return panels_.data()[(j / columns * K + k) * columns + j % columns]; }
   SOFIE_INLINE const T *panel(Size p) const { return panels_.data() + p * K * columns; }
   SOFIE_INLINE const T *bias(Size p) const { return bias_.data() + p * columns; }
};

/// y[j] = f(sums[j] + b[j]) for the `count` columns that exist.
template <class F, class T>
SOFIE_INLINE void dense_row(const F &f, T *__restrict y, const T *__restrict sums, const T *__restrict b, Size count)
{
   constexpr int n = lanes<T>;
   Size j = 0;
   for (; j + n <= count; j += n)
      store(y + j, f(load<n>(sums + j) + load<n>(b + j)));
   if (j < count)
      store_some(y + j, f(load<n>(sums + j) + load<n>(b + j)), count - j);
}

/// The same for several rows; out of line, so that an activation is compiled once and not per tile.
template <class F, class T>
SOFIE_KERNEL void dense_rows(const F &f, T *y, Size y_stride, const T *sums, Size sums_stride, const T *b, Size rows, Size count)
{
   for (Size r = 0; r < rows; ++r)
      dense_row(f, y + r * y_stride, sums + r * sums_stride, b, count);
}

/// `Rows` rows of y, for the packs First, First + 1, ... of one panel.
template <int Rows, int Packs, class F, class T, Size K, Size N>
SOFIE_INLINE void dense_tile(const F &f, T *y, const T *x, const DenseWeights<T, K, N> &w, Size panel, Size first)
{
   using S = DenseShape<T, N>;
   constexpr int n = lanes<T>;
   alignas(64) T sums[Rows * Packs * n];
   tile<Rows, Packs, S::chains, K>(x, K, w.panel(panel) + first * n, S::width * n, K, sums);
   const Size column = (panel * S::width + first) * n;
   const Size count = N - column < Packs * n ? N - column : Packs * n;
   if constexpr (Rows == 1)
      dense_row(f, y + column, sums, w.bias(panel) + first * n, count);
   else
      dense_rows(f, y + column, N, sums, Packs * n, w.bias(panel) + first * n, Rows, count);
}

/// All rows of y, for one block of packs: as many rows at a time as there are registers for.
template <int Packs, class F, class T, Size K, Size N>
SOFIE_INLINE void dense_columns(const F &f, T *y, const T *x, Size m, const DenseWeights<T, K, N> &w, Size panel, Size first)
{
   constexpr int registers = SOFIE_SIMD_BYTES == 32 ? 16 : SOFIE_SIMD_BYTES == 64 ? 32 : 16;
   constexpr int fit = (registers - Packs - 1) / (Packs * DenseShape<T, N>::chains);
   constexpr int rows = fit < 1 ? 1 : fit > 6 ? 6 : fit;
   Size i = 0;
   for (; i + rows <= m; i += rows)
      dense_tile<rows, Packs>(f, y + i * N, x + i * K, w, panel, first);
   if constexpr (rows > 1) {
      // The last rows: once more with rows that are done already, which gives them the same values.
      if (i < m)
         dense_tile<rows, Packs>(f, y + (m - rows) * N, x + (m - rows) * K, w, panel, first);
   }
}

#ifdef SOFIE_TILE_ASSEMBLER
/// A layer as the tiles in assembler see it, which know no other functions than max(0, x).
struct DenseLayer {
   const float *weights;
   const float *bias;
   Size depth;
   Size columns;
   Size width; // Of a panel, in columns.
   Size chains;
   std::int32_t relu;
};

/// How many rows a function is computed for together.
inline constexpr Size dense_many_rows = 64;

template <class F>
inline constexpr bool is_in_tile = std::is_same_v<F, Relu> || std::is_same_v<F, Identity>;

template <class F, Size K, Size N>
SOFIE_INLINE DenseLayer dense_layer(const DenseWeights<float, K, N> &w)
{
   using S = DenseShape<float, N>;
   return {w.panel(0), w.bias(0), K, N, S::width * lanes<float>, S::chains, std::is_same_v<F, Relu>};
}

/// The columns `first`, `first + 1`, ... of a panel, up to 3 packs of them, for all rows of y, a tile at a
/// time. What `tile` adds up in several chains is added up here in as many passes: the same sums in the
/// same order.
SOFIE_KERNEL inline void dense_stripe(const DenseLayer &layer, float *y, const float *x, Size m, Size panel, Size first, Size packs)
{
   constexpr Size n = lanes<float>;
   alignas(64) float sums[dense_tile_rows * dense_tile_width];
   const Size chains = layer.chains, left = layer.columns - panel - first;
   DenseTiles of = dense_tiles_of({x, layer.depth, chains},
                                  {layer.weights + panel * layer.depth + first, chains * layer.width},
                                  layer.depth / chains, {y + panel + first, layer.columns}, m);
   of.bias = layer.bias + panel + first;
   of.mask = left < packs * n ? (1 << (left - (packs - 1) * n)) - 1 : 0xffff;
   of.relu = layer.relu;
   of.depth = layer.depth / chains;
   of.longer = layer.depth % chains;
   of.passes = chains;
   of.x_pass = Size{sizeof(float)};
   of.w_pass = layer.width * Size{sizeof(float)};
   of.sums = sums;
   if (packs == 3)
      dense_tiles<3>(of);
   else if (packs == 2)
      dense_tiles<2>(of);
   else
      dense_tiles<1>(of);
}

#ifdef SOFIE_AVX512_ASSEMBLER
/// The same for 4 packs of columns, whose tiles have 2 to 6 rows.
SOFIE_KERNEL inline void dense_stripe_of_quads(const DenseLayer &layer, float *y, const float *x, Size m, Size panel,
                                               Size first)
{
   constexpr Size n = lanes<float>, columns = dense_quads_packs * n;
   alignas(64) float sums[dense_quads_rows * columns];
   const Size left = layer.columns - panel - first;
   DenseQuads of = dense_quads_of({x, layer.depth}, {layer.weights + panel * layer.depth + first, layer.width},
                                  layer.depth, layer.chains, {y + panel + first, layer.columns},
                                  {layer.bias + panel + first, 0}, sums);
   if (left < columns)
      of.mask = (Size{1} << (left - columns + n)) - 1;
   if (layer.relu)
      of.least = 0;
   dense_quads(of, m);
}
#endif

/// How many of so many packs of columns go together for many rows, as far as that leaves no single one: 3 where 8 rows
/// at a time leave none, which reads weights less often; else 4 or 3. AVX2 has no registers for 4.
constexpr Size dense_stripe_packs(Size packs, [[maybe_unused]] Size rows)
{
#ifndef SOFIE_AVX512_ASSEMBLER
   return packs == 4 ? 2 : packs < 3 ? packs : 3;
#else
   if (packs <= 4)
      return packs;
   return rows % dense_tile_rows == 0 || packs == 5 || (packs % 3 == 0 && packs % 4 > 0) ? 3 : 4;
#endif
}

/// All rows, at least 4, or 2 where panels have 4 packs, of the columns of one panel.
SOFIE_KERNEL inline void dense_panel_stripes(const DenseLayer &layer, float *y, const float *x, Size m, Size panel)
{
   constexpr Size n = lanes<float>;
   const Size left = layer.columns - panel, packs = ceil_div(left < layer.width ? left : layer.width, n);
#ifdef SOFIE_AVX512_ASSEMBLER
   if (m <= dense_quads_rows && m != dense_tile_half && packs >= dense_quads_packs) {
      // No other tile has so few rows. The last columns once more with columns that are done already.
      for (Size first = 0; first < packs; first += dense_quads_packs)
         dense_stripe_of_quads(layer, y, x, m, panel,
                               (first + dense_quads_packs <= packs ? first : packs - dense_quads_packs) * n);
      return;
   }
#endif
   for (Size first = 0, together; first < packs; first += together) {
      together = dense_stripe_packs(packs - first, m);
#ifdef SOFIE_AVX512_ASSEMBLER
      if (together > 3)
         dense_stripe_of_quads(layer, y, x, m, panel, first * n);
      else
#endif
         dense_stripe(layer, y, x, m, panel, first * n, together);
   }
}

/// A panel of at most so many weights is read from the first cache; from so many results on they go to memory.
inline constexpr Size dense_near_weights = 6144, dense_far_results = Size{1} << 18;

/// All rows, at least 4, or 2 where panels have 4 packs, of all columns of y.
SOFIE_KERNEL inline void dense_stripes(const DenseLayer &layer, float *y, const float *x, Size m)
{
   // Memory takes long pieces of rows faster than short ones of many rows.
   const bool few = layer.depth * layer.width <= dense_near_weights && m * layer.columns >= dense_far_results;
   const Size most = few ? dense_tile_rows : m;
   for (Size panel = 0; panel < layer.columns; panel += layer.width)
      for (Size i = 0, rows; i < m; i += rows) {
         // The last ones are enough for a tile.
         rows = m - i < 2 * most ? m - i : most;
         dense_panel_stripes(layer, y + i * layer.columns, x + i * layer.depth, rows, panel);
      }
}

/// y = f(x @ w + b) for as many rows as `dense_stripes` needs, of which so many go together that f finds them in a near
/// cache.
template <class F, Size K, Size N>
SOFIE_INLINE void dense_many(const F &f, float *y, const float *x, Size m, const DenseWeights<float, K, N> &w)
{
   const DenseLayer layer = dense_layer<F>(w);
   if constexpr (is_in_tile<F>) {
      dense_stripes(layer, y, x, m);
   } else {
      for (Size i = 0; i < m;) {
         const Size rows = m - i < 2 * dense_many_rows ? m - i : dense_many_rows;
         dense_stripes(layer, y + i * N, x + i * K, rows);
         apply_function(f, y + i * N, y + i * N, rows * N);
         i += rows;
      }
   }
}
#endif

/// One row of y, for a panel.
template <class F, class T, Size K, Size N>
SOFIE_INLINE void dense_alone(const F &f, T *y, const T *x, const DenseWeights<T, K, N> &w, Size panel)
{
   using S = DenseShape<T, N>;
   constexpr int width = static_cast<int>(S::width);
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float> && width > 1) {
      constexpr Size n = lanes<T>, whole = (width - 1) * n;
      // Of the last panel there may be less than the tile computes.
      constexpr bool direct = is_in_tile<F> && N - (S::panels - 1) * width * n > whole;
      alignas(64) float sums[direct ? 1 : width * n];
      const Size column = panel * width * n, count = N - column < width * n ? N - column : width * n;
      const Size last = direct ? count - whole : n;
      dense_row_assembler<width>(x, w.panel(panel), K,
                                 DenseTileEnd{sums, direct ? y + column : sums, 0, w.bias(panel), (Size{1} << last) - 1, 0,
                                              std::is_same_v<F, Relu>});
      if constexpr (is_in_tile<F> && !direct)
         __builtin_memcpy(y + column, sums, static_cast<std::size_t>(count) * sizeof(T));
      else if constexpr (!direct)
         apply_function(f, y + column, sums, count);
      return;
   }
#endif
   dense_tile<1, width>(f, y, x, w, panel, 0);
}

/// All rows, at least 6, of all columns of y.
template <class F, class T, Size K, Size N>
SOFIE_INLINE void dense_blocks(const F &f, T *y, const T *x, Size m, const DenseWeights<T, K, N> &w)
{
   using S = DenseShape<T, N>;
   constexpr int width = static_cast<int>(S::width);
   constexpr int block = width < 4 ? width : 4;
   constexpr int rest = width % block;
   for (Size p = 0; p < S::panels; ++p) {
      for (Size first = 0; first + block <= width; first += block)
         dense_columns<block>(f, y, x, m, w, p, first);
      if constexpr (rest > 0)
         dense_columns<rest>(f, y, x, m, w, p, width - rest);
   }
}

/// From how many rows on they are computed together: earlier where weights come from the second cache, or where a tile
/// has few rows.
template <class T, Size K, Size N>
inline constexpr Size dense_together = 6;
#ifdef SOFIE_AVX512_ASSEMBLER
template <class S, bool Far>
inline constexpr Size dense_together_here =
   // The last panel may have fewer packs than such a tile.
   S::packs - (S::panels - 1) * S::width < dense_quads_packs ? (Far ? dense_tile_half : dense_tile_rows)
   : S::width % dense_quads_packs == 0 || Far                ? dense_quads_least
                                                             : dense_tile_rows;
template <Size K, Size N>
inline constexpr Size dense_together<float, K, N> = dense_together_here<DenseShape<float, N>, (K * N > 8192)>;
#elif defined(SOFIE_TILE_ASSEMBLER)
template <Size K, Size N>
inline constexpr Size dense_together<float, K, N> = dense_tile_half;
#endif

/// y[m, n] = f(sum_k x[m, k] * w[k, n] + b[n]), one row at a time.
template <class F, class T, Size M, Size K, Size N>
SOFIE_INLINE void dense_one_by_one(const F &f, View<T, M, N> y, View<const T, M, K> x, const DenseWeights<T, K, N> &w)
{
   for (Size i = 0; i < x.template extent<0>(); ++i)
      for (Size p = 0; p < DenseShape<T, N>::panels; ++p)
         dense_alone(f, y.data() + i * N, x.data() + i * K, w, p);
}

/// The same in tiles, for at least as many rows as `dense_together` says.
template <class F, class T, Size M, Size K, Size N>
SOFIE_INLINE void dense_in_tiles(const F &f, View<T, M, N> y, View<const T, M, K> x, const DenseWeights<T, K, N> &w)
{
   const Size m = x.template extent<0>();
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float> && (dense_tile_rows > dense_tile_half || DenseShape<T, N>::width > 1))
      dense_many(f, y.data(), x.data(), m, w);
   else
#endif
      dense_blocks(f, y.data(), x.data(), m, w);
}

/// The same for one row.
template <class F, class T, Size K, Size N>
SOFIE_KERNEL void dense_one_row(const F &f, View<T, 1, N> y, View<const T, 1, K> x, const DenseWeights<T, K, N> &w)
{
   dense_one_by_one(f, y, x, w);
}

/// The same for 8 rows and more.
template <class F, class T, Size M, Size K, Size N>
SOFIE_KERNEL void dense_tiled(const F &f, View<T, M, N> y, View<const T, M, K> x, const DenseWeights<T, K, N> &w)
{
   dense_in_tiles(f, y, x, w);
}

/// The same for any number of rows.
template <class F, class T, Size M, Size K, Size N>
SOFIE_KERNEL void dense(const F &f, View<T, M, N> y, View<const T, M, K> x, const DenseWeights<T, K, N> &w)
{
   if (x.template extent<0>() < dense_together<T, K, N>)
      dense_one_by_one(f, y, x, w);
   else
      dense_in_tiles(f, y, x, w);
}

} // namespace sofie

SOFIE_END

#endif
