/// \file
/// Products with weights, which are packed for them.
///
/// They are made of one register tile: Rows x Packs accumulators that stay in registers
/// while k runs, one broadcast of x and Packs loads of w for each k. Every element of the result
/// is summed in an order that depends on the shape of w alone, so it is the same to the last bit
/// whether a row is computed by itself or in a batch.
#ifndef SOFIE_KERNELS_DENSE_HXX
#define SOFIE_KERNELS_DENSE_HXX

#include "sofie/kernels/dense/tile.hxx"
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
   const int most = products >= 20 || depth == dyn ? 32 : 530 / products;
   if (depth == dyn)
      return most / chains * chains;
   if (depth <= most + most / 4)
      return depth > 0 ? static_cast<int>(depth) : chains;
   for (int length = most / chains * chains; 2 * length >= most; length -= chains)
      if (depth % length == 0)
         return length;
   return most / chains * chains;
}

/// sums[r][j] = sum_k x[r][k] * w[k][j], for `Rows` rows of x and `Packs` packs of columns of w.
/// `Chains` partial sums a element run side by side, to hide the latency of additions; step k
/// belongs to chain k % Chains. `Depth` is the number of steps where that is known, else `dyn`; then the first chain has
/// the last few steps, too.
template <int Rows, int Packs, int Chains, Size Depth, class T>
SOFIE_INLINE void
tile(const T *__restrict x, Size x_stride, const T *__restrict w, Size w_stride, Size depth, T *__restrict sums)
{
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
      constexpr int some = Chains < 4 ? 4 : Chains;
      for (; k + some <= depth; k += some) {
         SOFIE_UNROLL_ALL
         for (int step = 0; step < some; ++step)
            tile_step<Rows, Packs>(x + k + step, x_stride, w + (k + step) * w_stride, sum[step % Chains]);
      }
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

/// In how many chains rows of so many packs are summed up: side by side they hide the latency of additions.
constexpr int dense_chains(Size packs)
{
   return packs >= 6 ? 1 : packs >= 3 ? 2 : packs == 2 ? 4 : 8;
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
   static constexpr int chains = dense_chains(width);
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

/// y = bias + x w for the columns of a panel of weights; rows of y have one bias, or one of their own each, which is one
/// number where its step is 0.
template <class T>
struct DensePanel {
   StridedRows<const T> x, w, bias;
   StridedRows<T> y;
   Size columns; // That y has.
   Size depth;
   Size chains = 1;   // Of this and the next ones only tiles in assembler have to be told.
   bool relu = false; // Whether y is max(0, that).
   bool far = false;  // Whether w comes from the third cache or memory.
};

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
   /// The product with panel number p.
   SOFIE_INLINE DensePanel<T> product(Size p, T *y, const T *x) const
   {
      const Size first = p * columns;
      return {{x, K}, {panel(p), columns}, {bias(p), 0}, {y + first, N}, N - first < columns ? N - first : columns, K};
   }
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
SOFIE_KERNEL void dense_rows(const F &f, StridedRows<T> y, StridedRows<const T> sums, StridedRows<const T> b, Size rows,
                             Size count)
{
   for (Size r = 0; r < rows; ++r)
      dense_row(f, y.data + r * y.stride, sums.data + r * sums.stride, b.data + r * b.stride, count);
}

/// `Rows` rows of y from `row` on, for the packs `first`, `first + 1`, ... of a panel.
template <int Rows, int Packs, int Chains, Size Depth, class F, class T>
SOFIE_INLINE void dense_tile(const F &f, const DensePanel<T> &of, Size row, Size first)
{
   constexpr int n = lanes<T>;
   alignas(64) T sums[Rows * Packs * n];
   const Size column = first * n, count = of.columns - column < Packs * n ? of.columns - column : Packs * n;
   tile<Rows, Packs, Chains, Depth>(of.x.data + row * of.x.stride, of.x.stride, of.w.data + column, of.w.stride,
                                    of.depth, sums);
   T *const y = of.y.data + row * of.y.stride + column;
   const T *const bias = of.bias.data + row * of.bias.stride + column;
   if constexpr (Rows == 1)
      dense_row(f, y, sums, bias, count);
   else
      dense_rows<F, T>(f, {y, of.y.stride}, {sums, Packs * n}, {bias, of.bias.stride}, Rows, count);
}

/// All rows of y, for one block of packs: as many rows at a time as there are registers for.
template <int Packs, int Chains, Size Depth, class F, class T>
SOFIE_INLINE void dense_columns(const F &f, const DensePanel<T> &of, Size m, Size first)
{
   constexpr int registers = SOFIE_SIMD_BYTES == 64 ? 32 : 16;
   constexpr int fit = (registers - Packs - 1) / (Packs * Chains);
   constexpr int rows = fit < 1 ? 1 : fit > 6 ? 6 : fit;
   // The last rows: once more with rows that are done already, which gives them the same values.
   for (Size i = 0; i < m; i += rows)
      dense_tile<rows, Packs, Chains, Depth>(f, of, i + rows <= m ? i : m - rows, first);
}

/// All rows, at least `dense_least_block`, of a panel of `Width` packs.
inline constexpr Size dense_least_block = 6;
template <int Width, int Chains, Size Depth, class F, class T>
SOFIE_INLINE void dense_blocks(const F &f, const DensePanel<T> &of, Size m)
{
   constexpr int block = Width < 4 ? Width : 4, rest = Width % block;
   for (Size first = 0; first + block <= Width; first += block)
      dense_columns<block, Chains, Depth>(f, of, m, first);
   if constexpr (rest > 0)
      dense_columns<rest, Chains, Depth>(f, of, m, Width - rest);
}

/// Whether tiles compute a function themselves.
template <class F>
inline constexpr bool is_in_tile = std::is_same_v<F, Relu> || std::is_same_v<F, Identity>;

#ifdef SOFIE_TILE_ASSEMBLER
/// A layer as the tiles in assembler see it, which know no other functions than max(0, x).
struct DenseLayer {
   const float *weights;
   const float *bias;
   Size depth;
   Size columns;
   Size width; // Of a panel, in columns.
   Size chains;
   bool relu, far;
};

/// How many rows a function is computed for together.
inline constexpr Size dense_many_rows = 64;

template <class F, Size K, Size N>
SOFIE_INLINE DenseLayer dense_layer(const DenseWeights<float, K, N> &w)
{
   using S = DenseShape<float, N>;
   return {w.panel(0), w.bias(0), K, N, S::width * lanes<float>, S::chains, std::is_same_v<F, Relu>, false};
}

/// The columns `first`, `first + 1`, ... of a panel, up to `dense_tile_packs` packs of them, for all rows of y, a tile at a
/// time. What `tile` adds up in several chains is added up here in as many passes: the same sums in the
/// same order.
SOFIE_KERNEL inline void dense_stripe(const DensePanel<float> &panel, Size m, Size first, Size packs)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   alignas(64) float sums[dense_tile_rows * dense_tile_width];
   const auto &[x, w, bias, y, columns, depth, chains, relu, far] = panel;
   const Size left = columns - first;
   DenseTiles of = dense_tiles_of({x.data, x.stride, chains * x.step}, {w.data + first, chains * w.stride},
                                  depth / chains, {y.data + first, y.stride}, m);
   of.bias = bias.data + first;
   of.bias_stride = bias.stride * bytes;
   of.one_bias = bias.step == 0;
   of.mask = left < packs * n ? (1 << (left - (packs - 1) * n)) - 1 : 0xffff;
   of.relu = relu;
   of.far = far;
   of.depth = depth / chains;
   of.longer = depth % chains;
   of.passes = chains;
   of.x_pass = x.step * bytes;
   of.w_pass = w.stride * bytes;
   of.sums = sums;
#ifdef SOFIE_AVX512_ASSEMBLER
   if (packs == 4)
      return dense_tiles<4>(of);
#endif
   if (packs == 3)
      dense_tiles<3>(of);
   else if (packs == 2)
      dense_tiles<2>(of);
   else
      dense_tiles<1>(of);
}

/// How many of so many packs of columns go together for many rows, as far as that leaves no single one: 3 where 8 rows
/// at a time leave none, which reads weights less often; else 4 or 3. AVX2 has no registers for 4.
constexpr Size dense_stripe_packs(Size packs, [[maybe_unused]] Size rows)
{
   if (dense_tile_packs < 4)
      return packs == 4 ? 2 : packs < 3 ? packs : 3;
   if (packs <= 4)
      return packs;
   return rows % dense_tile_rows == 0 || packs == 5 || (packs % 3 == 0 && packs % 4 > 0) ? 3 : 4;
}

/// All rows of the columns of one panel.
SOFIE_KERNEL inline void dense_panel_stripes(const DensePanel<float> &panel, Size m)
{
   constexpr Size n = lanes<float>;
   const Size packs = ceil_div(panel.columns, n);
   for (Size first = 0, together; first < packs; first += together) {
      together = dense_stripe_packs(packs - first, m);
      dense_stripe(panel, m, first * n, together);
   }
}

/// All rows of all columns of y.
SOFIE_KERNEL inline void dense_stripes(const DenseLayer &layer, float *y, const float *x, Size m)
{
   for (Size first = 0; first < layer.columns; first += layer.width) {
      const Size left = layer.columns - first;
      dense_panel_stripes({{x, layer.depth},
                           {layer.weights + first * layer.depth, layer.width},
                           {layer.bias + first, 0},
                           {y + first, layer.columns},
                           left < layer.width ? left : layer.width,
                           layer.depth,
                           layer.chains,
                           layer.relu,
                           layer.far},
                          m);
   }
}

/// y = f(x @ w + b) for all rows, of which so many go together that f finds them in a near cache.
template <class F, Size K, Size N, template <class, Size, Size> class W>
SOFIE_INLINE void dense_many(const F &f, float *y, const float *x, Size m, const W<float, K, N> &w)
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

#ifdef SOFIE_TILE_ASSEMBLER
/// One row of sums, of a panel.
template <int Width, Size K, Size N>
SOFIE_INLINE void dense_row_of(const DenseWeights<float, K, N> &w, Size panel, const float *x, const DenseRowEnd &end)
{
   dense_row_assembler<Width>(x, w.panel(panel), K, end);
}
#endif

/// One row of y, for a panel.
template <class F, class T, template <class, Size, Size> class W, class Q, Size K, Size N>
SOFIE_INLINE void dense_alone(const F &f, T *y, const T *x, const W<Q, K, N> &w, Size panel)
{
   using S = DenseShape<T, N>;
   constexpr int width = static_cast<int>(S::width);
#ifdef SOFIE_TILE_ASSEMBLER
   // One pack and few steps are a nanosecond faster in line, where all steps are one block. More would be much code.
   if constexpr (std::is_same_v<T, float> && (width > 1 || K > 128)) {
      constexpr Size n = lanes<T>, whole = (width - 1) * n;
      // Of the last panel there may be less than the tile computes.
      constexpr bool direct = is_in_tile<F> && N - (S::panels - 1) * width * n > whole;
      alignas(64) float sums[direct ? 1 : width * n];
      const Size column = panel * width * n, count = N - column < width * n ? N - column : width * n;
      const Size last = direct ? count - whole : n;
      dense_row_of<width>(w, panel, x,
                          DenseRowEnd{direct ? y + column : sums, w.bias(panel), (Size{1} << last) - 1,
                                      std::is_same_v<F, Relu>});
      if constexpr (is_in_tile<F> && !direct)
         __builtin_memcpy(y + column, sums, static_cast<std::size_t>(count) * sizeof(T));
      else if constexpr (!direct)
         apply_function(f, y + column, sums, count);
      return;
   }
#endif
   dense_tile<1, width, S::chains, K>(f, w.product(panel, y, x), 0, 0);
}

/// From how many rows on panels of `width` packs are computed for all rows together: earlier where their weights are far,
/// which is in the second cache, or where tiles leave no packs.
constexpr Size dense_least_rows([[maybe_unused]] Size width, [[maybe_unused]] bool far)
{
#ifdef SOFIE_TILE_ASSEMBLER
   constexpr Size fewest = dense_tile_packs > 3 ? 2 : 3; // Tiles of fewer sums wait for them.
   return far || width % dense_tile_packs == 0 ? fewest : dense_tile_rows;
#else
   return dense_least_block;
#endif
}
constexpr bool dense_is_far(Size weights)
{
   return weights > 8192;
}

/// The same of a layer.
template <class T, Size K, Size N>
inline constexpr Size dense_together = dense_least_block;
template <Size K, Size N>
inline constexpr Size dense_together<float, K, N> =
   dense_least_rows(DenseShape<float, N>::width, dense_is_far(K *N));

/// y[m, n] = f(sum_k x[m, k] * w[k, n] + b[n]), one row at a time.
template <class F, class T, Size M, Size K, Size N, class W>
SOFIE_INLINE void dense_one_by_one(const F &f, View<T, M, N> y, View<const T, M, K> x, const W &w)
{
   for (Size i = 0; i < x.template extent<0>(); ++i)
      for (Size p = 0; p < DenseShape<T, N>::panels; ++p)
         dense_alone(f, y.data() + i * N, x.data() + i * K, w, p);
}

/// The same in tiles, for at least as many rows as `dense_together` says.
template <class F, class T, Size M, Size K, Size N>
SOFIE_INLINE void dense_in_tiles(const F &f, View<T, M, N> y, View<const T, M, K> x, const DenseWeights<T, K, N> &w)
{
   using S = DenseShape<T, N>;
   const Size m = x.template extent<0>();
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float> && (dense_tile_rows > dense_tile_half || S::width > 1))
      return dense_many(f, y.data(), x.data(), m, w);
#endif
   for (Size p = 0; p < S::panels; ++p)
      dense_blocks<static_cast<int>(S::width), S::chains, K>(f, w.product(p, y.data(), x.data()), m);
}

/// The same for any number of rows. Where it is known only one of both is compiled.
template <class F, class T, Size M, Size K, Size N>
SOFIE_KERNEL void dense(const F &f, View<T, M, N> y, View<const T, M, K> x, const DenseWeights<T, K, N> &w)
{
   constexpr Size together = dense_together<T, K, N>;
   if constexpr (M != dyn && M < together)
      dense_one_by_one(f, y, x, w);
   else if constexpr (M != dyn)
      dense_in_tiles(f, y, x, w);
   else if (x.template extent<0>() < together)
      dense_one_by_one(f, y, x, w);
   else
      dense_in_tiles(f, y, x, w);
}

} // namespace sofie

SOFIE_END

#endif
