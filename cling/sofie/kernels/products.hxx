/// \file
/// Products of matrices that are both computed: MatMul, and Gemm as it stands.
#ifndef SOFIE_KERNELS_PRODUCTS_HXX
#define SOFIE_KERNELS_PRODUCTS_HXX

#include "sofie/kernels/dense.hxx"
#include "sofie/kernels/dense/dots.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_TILE_ASSEMBLER
/// How many columns `matrix_stripe` has at most.
inline constexpr Size matrix_stripe_columns = 3 * lanes<float>;

/// From how many rows of a on it copies rows of b that compete for few places of the first cache, as they are a
/// multiple of so many numbers long.
inline constexpr Size matrix_many_rows = 32, matrix_apart = 512;

/// Up to `Packs` packs of columns of a product, from column j on.
template <int Packs>
SOFIE_KERNEL void matrix_stripe(float *y, const float *a, const float *b, const Sizes<3> &sizes, Size j)
{
   constexpr int n = lanes<float>;
   constexpr Size width = Packs * n, copied_rows = 64, near_rows = 256, bytes = Size{sizeof(float)};
   const Size depth = sizes[1], columns = sizes[2], left = columns - j < width ? columns - j : width;
   alignas(64) float sums[dense_tile_rows * dense_tile_width], copy[near_rows * width];
   DenseTiles of = dense_tiles_of({a, depth}, {b + j, columns}, depth, {y + j, columns}, sizes[0]);
   of.sums = sums;
   const bool all = left == width && sizes[0] >= matrix_many_rows && depth <= near_rows && columns % matrix_apart == 0;
   if (all || left < width) {
      // Behind the columns come those of the next rows, as long as there are some: the last rows of b are copied, and
      // all of them where they are few. Copied rows may reach over each other where those of b do.
      const Size behind = depth * columns - j - width, last = behind < 0 ? 0 : behind / columns + 1;
      const Size whole = all || depth * Packs <= copied_rows ? 0 : last, rest = depth - whole;
      const Size apart = whole > 0 ? columns : width;
      for (Size k = 0; k < rest; ++k)
         for (Size c = 0; c < width; c += n) {
            const Size count = left - c < n ? left - c : n;
            store(copy + k * apart + c, load_some<n>(b + (whole + k) * columns + j + c, count < 0 ? 0 : count));
         }
      of.mask = (1 << (left - width + n)) - 1;
      of.last = rest;
      if (whole == 0) {
         of.w = copy;
         of.w_step = width * bytes;
      } else if (rest > 0) {
         of.depth = whole;
         of.passes = 2;
         of.x_pass = whole * bytes;
         of.w_pass = (copy - of.w) * bytes;
      } else {
         of.last = whole;
      }
   }
   dense_tiles<Packs>(of);
}

/// y[m, n] = sum_k a[m, k] * b[k, n] of floats, in tiles.
SOFIE_KERNEL inline void matrix_tiles(float *y, const float *a, const float *b, const Sizes<3> &sizes)
{
   constexpr int n = lanes<float>;
   for (Size j = 0; j < sizes[2]; j += matrix_stripe_columns) {
      const Size left = sizes[2] - j;
      if (left > 2 * n)
         matrix_stripe<3>(y, a, b, sizes, j);
      else if (left > n)
         matrix_stripe<2>(y, a, b, sizes, j);
      else
         matrix_stripe<1>(y, a, b, sizes, j);
   }
}
#endif

/// y[m, 0] = sum_k a[m, k] * b[k, 0]
template <class T>
SOFIE_KERNEL void matrix_dots(T *__restrict y, const T *__restrict a, const T *__restrict b, const Sizes<3> &sizes)
{
   for (Size i = 0; i < sizes[0]; ++i)
      y[i] = dot(a + i * sizes[1], b, sizes[1]);
}

/// y[m, n] = sum_k a[m, k] * b[k, n], row by row.
template <class T>
SOFIE_KERNEL void matrix_rows(T *__restrict y, const T *__restrict a, const T *__restrict b, const Sizes<3> &sizes)
{
   constexpr int n = lanes<T>;
   constexpr int packs = 4;
   const Size depth = sizes[1], columns = sizes[2];
   alignas(64) T sums[n];
   for (Size i = 0; i < sizes[0]; ++i) {
      Size j = 0;
      for (; j + packs * n <= columns; j += packs * n)
         tile<1, packs, 1, dyn>(a + i * depth, depth, b + j, columns, depth, y + i * columns + j);
      for (; j < columns; j += n) {
         const Size count = columns - j < n ? columns - j : n;
         Pack<T> sum{};
         for (Size k = 0; k < depth; ++k)
            sum = accumulate(sum, a[i * depth + k], load_some<n>(b + k * columns + j, count));
         store(sums, sum);
         __builtin_memcpy(y + i * columns + j, sums, static_cast<std::size_t>(count) * sizeof(T));
      }
   }
}

/// The same rule as that of `kernels/matmul.py`, for floats whose columns are known at run time only.
template <class T>
SOFIE_KERNEL void matrix_any(T *y, const T *a, const T *b, const Sizes<3> &sizes)
{
   if (sizes[2] == 1)
      return matrix_dots(y, a, b, sizes);
#ifdef SOFIE_TILE_ASSEMBLER
   if constexpr (std::is_same_v<T, float>)
      return matrix_tiles(y, a, b, sizes);
#endif
   matrix_rows(y, a, b, sizes);
}

/// All products of two matrices, each of which `Multiply` computes: y, a, b; rows, depth and columns.
template <auto Multiply, int Axis = 0, class Y, class A, class B>
SOFIE_INLINE void matmul_axis(const Y &y, const A &a, const B &b)
{
   static_assert(Y::rank == A::rank && Y::rank == B::rank, "broadcast shapes are aligned before the call");
   if constexpr (Axis == Y::rank - 2) {
      Multiply(y.data(), a.data(), b.data(),
               {{y.template extent<Axis>(), b.template extent<Axis>(), y.template extent<Axis + 1>()}});
   } else {
      for (Size i = 0; i < y.template extent<Axis>(); ++i)
         matmul_axis<Multiply, Axis + 1>(y.shifted(i * y.template stride<Axis>()),
                                         a.shifted(i * a.template stride<Axis>()),
                                         b.shifted(i * b.template stride<Axis>()));
   }
}

/// y[..., m, n] = sum_k a[..., m, k] * b[..., k, n], the axes before broadcast as in `map`; of floats.
template <class Y, class A, class B>
SOFIE_KERNEL void matmul(Y y, A a, B b)
{
   matmul_axis<matrix_any<typename Y::Element>>(y, a, b);
}

/// The same for a single column.
template <class Y, class A, class B>
SOFIE_KERNEL void matmul_dots(Y y, A a, B b)
{
   matmul_axis<matrix_dots<typename Y::Element>>(y, a, b);
}

/// The same row by row, for all types.
template <class Y, class A, class B>
SOFIE_KERNEL void matmul_rows(Y y, A a, B b)
{
   matmul_axis<matrix_rows<typename Y::Element>>(y, a, b);
}

/// The same of floats, in tiles.
template <class Y, class A, class B>
SOFIE_KERNEL void matmul_tiled(Y y, A a, B b)
{
#ifdef SOFIE_TILE_ASSEMBLER
   matmul_axis<matrix_tiles>(y, a, b);
#else
   matmul_rows(y, a, b);
#endif
}

/// alpha * product + beta * c
struct GemmScale {
   double alpha = 1;
   double beta = 1;

   template <class V>
   SOFIE_INLINE static V scaled(double factor, V v)
   {
      using T = ElementOf<V>;
      if constexpr (std::is_floating_point_v<T>)
         return splat<V>(static_cast<T>(factor)) * v;
      // The product of an integer with a fraction loses its fraction; times 1 it must stay exact.
      for (int i = 0; factor != 1 && i < width<V>; ++i)
         v[i] = static_cast<T>(factor * static_cast<double>(v[i]));
      return v;
   }
   template <class V>
   SOFIE_INLINE V operator()(V product) const
   {
      return scaled(alpha, product);
   }
   template <class V>
   SOFIE_INLINE V operator()(V product, V c) const
   {
      return plus(scaled(alpha, product), scaled(beta, c));
   }
};

/// y = scale(op(a) @ op(b)[, c]) where op transposes if asked to and c[1 or m, 1 or n] is broadcast.
template <bool TransA, bool TransB, class T, Size M, Size N, class A, class B, class... C>
SOFIE_KERNEL void gemm(const GemmScale &scale, View<T, M, N> y, A a, B b, C... c)
{
   constexpr int n = lanes<T>;
   const Size rows = y.template extent<0>(), columns = y.template extent<1>();
   const Size depth = b.template extent<TransB ? 1 : 0>();
   for (Size i = 0; i < rows; ++i)
      for (Size j = 0; j < columns; j += n) {
         const Size count = columns - j < n ? columns - j : n;
         Pack<T> sum{};
         for (Size k = 0; k < depth; ++k) {
            const T factor = a.data()[TransA ? k * rows + i : i * depth + k];
            Pack<T> row{};
            if constexpr (TransB)
               for (Size l = 0; l < count; ++l)
                  row[l] = b.data()[(j + l) * depth + k];
            else
               row = load_some<n>(b.data() + k * columns + j, count);
            sum = accumulate(sum, factor, row);
         }
         store_some(y.data() + i * columns + j,
                    scale(sum, Source<n, C::template static_extent<1>, typename C::Element>(c.data() +
                                                                                            i * c.template stride<0>())
                                  .some(j, count)...),
                    count);
      }
}

} // namespace sofie

SOFIE_END

#endif
