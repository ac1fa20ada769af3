/// \file
/// Products with weights that come from the third cache or from memory.
///
/// There a core has so many reads under way at once, and its prefetchers look ahead so far, that one place after the
/// other is half as fast as several at a time. So each pack of columns is stored by itself, one behind the other (a
/// stream), and a tile reads 4 or 8 of them side by side. Many rows take a block of their steps after the other: what
/// all rows read of the weights then stays in the first cache, and is read from afar once.
#ifndef SOFIE_KERNELS_DENSE_FROM_MEMORY_HXX
#define SOFIE_KERNELS_DENSE_FROM_MEMORY_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense.hxx"

SOFIE_BEGIN

namespace sofie {

#ifdef SOFIE_AVX512_ASSEMBLER
/// How far apart streams of `depth` steps begin, in packs. Side by side they must not be in the same places of a cache,
/// nor come to the end of a page at the same time.
constexpr Size stream_pitch(Size depth)
{
   constexpr Size places = 64, apart = 9;
   return depth + (places + apart - depth % places) % places;
}

/// How many streams and rows the tile of few rows has, and that of more. Both have registers for 24 sums.
inline constexpr Size streams_wide = 8, streams_wide_rows = 3, streams_tall = 4, streams_tall_rows = 6;

/// How many steps many rows take together: four streams of so many fill two thirds of the first cache.
inline constexpr Size streams_block = 128;

/// sums[r][j] = sum_k x[r][k] * w[k][j], or that in addition to what they are. Strides and
/// the pitch are in bytes.
struct StreamsTile {
   const float *x;
   Size x_stride;
   const float *w;
   Size pitch;
   Size depth;
   Size rows;
   float *sums;
   Size add;
};

// clang-format off
#define SOFIE_STREAMS_STORE(a) "vmovups %%zmm" #a ", " #a "*64(%[sums])\n\t"
#define SOFIE_STREAMS_ADD(a) "vmovups " #a "*64(%[sums]), %%zmm" #a "\n\t"
#define SOFIE_STREAMS_BEGIN                                                                                      \
   "mov %c[of_x](%[of]), %[x]\n\t"                                                                               \
   "mov %c[of_x_stride](%[of]), %[stride]\n\t"                                                                   \
   "mov %c[of_w](%[of]), %[w]\n\t"                                                                               \
   "mov %c[of_pitch](%[of]), %[pitch]\n\t"                                                                       \
   "mov %c[of_depth](%[of]), %[k]\n\t"                                                                           \
   "mov %c[of_sums](%[of]), %[sums]\n\t"                                                                         \
   "lea (%[pitch],%[pitch],2), %[third]\n\t"                                                                     \
   "cmpq $0, %c[of_add](%[of])\n\t"                                                                              \
   "jne 10f\n\t"                                                                                                 \
   SOFIE_DENSE_ALL(SOFIE_DENSE_ZERO)                                                                        \
   "jmp 11f\n"                                                                                                   \
   "10:\n\t"                                                                                                     \
   SOFIE_DENSE_ALL(SOFIE_STREAMS_ADD)                                                                         \
   "11:\n\t"
#define SOFIE_STREAMS_AHEAD "2048"

// A pack of a stream, and its product with one, two or three rows.
#define SOFIE_STREAMS_LOAD(w, number) "vmovups " w ", %%zmm" #number "\n\tprefetcht0 " SOFIE_STREAMS_AHEAD w "\n\t"
#define SOFIE_STREAMS_PRODUCT(x, w, a) "vfmadd231ps %%zmm" #w ", %%zmm" #x ", %%zmm" #a "\n\t"
#define SOFIE_STREAMS_WIDE_1(place, number, a, b, c) SOFIE_STREAMS_LOAD(place, number) SOFIE_STREAMS_PRODUCT(28, number, a)
#define SOFIE_STREAMS_WIDE_2(place, number, a, b, c) SOFIE_STREAMS_WIDE_1(place, number, a, b, c) SOFIE_STREAMS_PRODUCT(29, number, b)
#define SOFIE_STREAMS_WIDE_3(place, number, a, b, c) SOFIE_STREAMS_WIDE_2(place, number, a, b, c) SOFIE_STREAMS_PRODUCT(30, number, c)
#define SOFIE_STREAMS_X_1 "vbroadcastss (%[x]), %%zmm28\n\t"
#define SOFIE_STREAMS_X_2 SOFIE_STREAMS_X_1 "vbroadcastss (%[x],%[stride]), %%zmm29\n\t"
#define SOFIE_STREAMS_X_3 SOFIE_STREAMS_X_2 "vbroadcastss (%[x],%[stride],2), %%zmm30\n\t"
#define SOFIE_STREAMS_WIDE(rows)                                                                                 \
   ".p2align 5\n"                                                                                                \
   #rows ":\n\t"                                                                                                 \
   SOFIE_STREAMS_X_##rows                                                                                        \
   SOFIE_STREAMS_WIDE_##rows("(%[w])", 24, 0, 8, 16)                                                             \
   SOFIE_STREAMS_WIDE_##rows("(%[w],%[pitch])", 25, 1, 9, 17)                                                    \
   SOFIE_STREAMS_WIDE_##rows("(%[w],%[pitch],2)", 26, 2, 10, 18)                                                 \
   SOFIE_STREAMS_WIDE_##rows("(%[w],%[third])", 27, 3, 11, 19)                                                   \
   SOFIE_STREAMS_WIDE_##rows("(%[other])", 24, 4, 12, 20)                                                        \
   SOFIE_STREAMS_WIDE_##rows("(%[other],%[pitch])", 25, 5, 13, 21)                                               \
   SOFIE_STREAMS_WIDE_##rows("(%[other],%[pitch],2)", 26, 6, 14, 22)                                             \
   SOFIE_STREAMS_WIDE_##rows("(%[other],%[third])", 27, 7, 15, 23)                                               \
   "add $4, %[x]\n\t"                                                                                            \
   "add $64, %[w]\n\t"                                                                                           \
   "add $64, %[other]\n\t"                                                                                       \
   "dec %[k]\n\t"                                                                                                \
   "jnz " #rows "b\n\t"

/// A tile of 1 to 3 rows and 8 streams; a row of its sums is 8 packs long.
SOFIE_KERNEL inline void streams_wide_tile(const StreamsTile &of)
{
   const float *x, *w, *other;
   float *sums;
   Size k, stride, pitch, third;
   asm volatile(
      SOFIE_STREAMS_BEGIN
      "lea (%[w],%[pitch],4), %[other]\n\t"
      "cmpq $2, %c[of_rows](%[of])\n\t"
      "jl 1f\n\t"
      "je 2f\n\t"
      SOFIE_STREAMS_WIDE(3)
      "jmp 12f\n\t"
      SOFIE_STREAMS_WIDE(2)
      "jmp 12f\n\t"
      SOFIE_STREAMS_WIDE(1)
      "12:\n\t"
      SOFIE_DENSE_ALL(SOFIE_STREAMS_STORE)
      : [w] "=&r"(w), [x] "=&r"(x), [other] "=&r"(other), [k] "=&r"(k), [sums] "=&r"(sums), [stride] "=&r"(stride),
        [pitch] "=&r"(pitch), [third] "=&r"(third)
      : [of] "r"(&of),
        SOFIE_MEMBERS(of, StreamsTile, x, x_stride, w, pitch, depth, rows, sums, add)
      : "memory", "cc", SOFIE_ALL_PACKS);
}

// A row: its number of x times four packs of w.
#define SOFIE_STREAMS_ROW(x, number, a, b, c, d)                                                                 \
   "vbroadcastss " x ", %%zmm" #number "\n\t"                                                                    \
   SOFIE_STREAMS_PRODUCT(number, 24, a) SOFIE_STREAMS_PRODUCT(number, 25, b)                                     \
   SOFIE_STREAMS_PRODUCT(number, 26, c) SOFIE_STREAMS_PRODUCT(number, 27, d)

/// A tile of 3 to 6 rows and 4 streams; a row of its sums is 4 packs long.
SOFIE_KERNEL inline void streams_tall_tile(const StreamsTile &of)
{
   const float *x, *w, *other;
   float *sums;
   Size k, stride, pitch, third, rows;
   asm volatile(
      SOFIE_STREAMS_BEGIN
      "mov %c[of_rows](%[of]), %[rows]\n\t"
      "lea (%[x],%[stride],2), %[other]\n\t"
      "add %[stride], %[other]\n\t"
      ".p2align 5\n"
      "1:\n\t"
      SOFIE_STREAMS_LOAD("(%[w])", 24)
      SOFIE_STREAMS_LOAD("(%[w],%[pitch])", 25)
      SOFIE_STREAMS_LOAD("(%[w],%[pitch],2)", 26)
      SOFIE_STREAMS_LOAD("(%[w],%[third])", 27)
      SOFIE_STREAMS_ROW("(%[x])", 28, 0, 1, 2, 3)
      SOFIE_STREAMS_ROW("(%[x],%[stride])", 29, 4, 5, 6, 7)
      SOFIE_STREAMS_ROW("(%[x],%[stride],2)", 30, 8, 9, 10, 11)
      "cmp $4, %[rows]\n\t"
      "jl 2f\n\t"
      SOFIE_STREAMS_ROW("(%[other])", 28, 12, 13, 14, 15)
      "je 2f\n\t"
      SOFIE_STREAMS_ROW("(%[other],%[stride])", 29, 16, 17, 18, 19)
      "cmp $5, %[rows]\n\t"
      "je 2f\n\t"
      SOFIE_STREAMS_ROW("(%[other],%[stride],2)", 30, 20, 21, 22, 23)
      "2:\n\t"
      "add $4, %[x]\n\t"
      "add $4, %[other]\n\t"
      "add $64, %[w]\n\t"
      "dec %[k]\n\t"
      "jnz 1b\n\t"
      SOFIE_DENSE_ALL(SOFIE_STREAMS_STORE)
      : [w] "=&r"(w), [x] "=&r"(x), [other] "=&r"(other), [k] "=&r"(k), [sums] "=&r"(sums), [stride] "=&r"(stride),
        [pitch] "=&r"(pitch), [third] "=&r"(third), [rows] "=&r"(rows)
      : [of] "r"(&of),
        SOFIE_MEMBERS(of, StreamsTile, x, x_stride, w, pitch, depth, rows, sums, add)
      : "memory", "cc", SOFIE_ALL_PACKS);
}
// clang-format on

/// W[K, N] and b[N], packed for `dense_streamed`.
template <class T, Size K, Size N>
class StreamedWeights {
   static_assert(N >= streams_wide * lanes<T>, "the last streams are read once more with some that are done already");
   static constexpr Size pitch = stream_pitch(K) * lanes<T>;
   static constexpr Size streams = ceil_div(N, lanes<T>);
   Buffer<T> streams_;
   Buffer<T> bias_;

public:
   StreamedWeights(View<const T, K, N> w, View<const T, N> b)
      : streams_(streams * pitch + lanes<T>), bias_(streams * lanes<T>)
   {
      dense_pack(streams_.data(), w.data(), K, N, stream_pitch(K), lanes<T>);
      __builtin_memcpy(bias_.data(), b.data(), static_cast<std::size_t>(N) * sizeof(T));
   }
   SOFIE_INLINE const T *data() const { return streams_.data(); }
   SOFIE_INLINE const T *bias() const { return bias_.data(); }
};

/// Up to `dense_many_rows` rows of y, where weights are in streams.
template <class F>
SOFIE_KERNEL void dense_streams(const F &f, const DenseLayer &layer, float *y, const float *x, Size m)
{
   constexpr Size n = lanes<float>, bytes = static_cast<Size>(sizeof(float));
   // The tile writes all sums that it has registers for, those of rows behind the last one as well.
   alignas(64) float sums[(dense_many_rows + streams_tall_rows) * streams_tall * n];
   const bool few = m <= streams_wide_rows;
   const Size streams = few ? streams_wide : streams_tall, packs = ceil_div(layer.columns, n);
   const Size tiles = few ? 1 : ceil_div(m, streams_tall_rows), rows = m / tiles, longer = m % tiles;
   const Size block = tiles == 1 ? layer.depth : streams_block, pitch = stream_pitch(layer.depth) * n;
   StreamsTile tile{nullptr, layer.depth * bytes, nullptr, pitch * bytes, 0, 0, nullptr, 0};
   for (Size next = 0; next < packs; next += streams) {
      // The last columns: once more with columns that are done already.
      const Size first = next + streams <= packs ? next : packs - streams, left = layer.columns - first * n;
      for (Size k = 0; k < layer.depth; k += block) {
         tile.w = layer.weights + first * pitch + k * n;
         tile.depth = layer.depth - k < block ? layer.depth - k : block;
         tile.add = k > 0;
         for (Size t = 0, row = 0; t < tiles; ++t, row += tile.rows) {
            tile.rows = t < longer ? rows + 1 : rows;
            tile.x = x + row * layer.depth + k;
            tile.sums = sums + row * streams * n;
            if (few)
               streams_wide_tile(tile);
            else
               streams_tall_tile(tile);
         }
      }
      dense_rows<F, float>(f, {y + first * n, layer.columns}, {sums, streams * n}, {layer.bias + first * n, 0}, m,
                           left < streams * n ? left : streams * n);
   }
}

/// y[m, n] = f(sum_k x[m, k] * w[k, n] + b[n])
template <class F, class T, Size M, Size K, Size N>
SOFIE_KERNEL void dense_streamed(const F &f, View<T, M, N> y, View<const T, M, K> x, const StreamedWeights<T, K, N> &w)
{
   static_assert(DenseShape<T, N>::chains == 1, "all rows are summed in the order of a stream");
   const DenseLayer layer{w.data(), w.bias(), K, N, lanes<T>, 1, std::is_same_v<F, Relu>};
   const Size m = x.template extent<0>();
   for (Size i = 0; i < m; i += dense_many_rows) {
      const Size rows = m - i < dense_many_rows ? m - i : dense_many_rows;
      T *const to = y.data() + i * N;
      if constexpr (is_in_tile<F>) {
         dense_streams(f, layer, to, x.data() + i * K, rows);
      } else {
         dense_streams(Identity{}, layer, to, x.data() + i * K, rows);
         apply_function(f, to, to, rows * N);
      }
   }
}

#else

/// Other instruction sets have no such tiles.
template <class T, Size K, Size N>
using StreamedWeights = DenseWeights<T, K, N>;

template <class F, class T, Size M, Size K, Size N>
SOFIE_INLINE void dense_streamed(const F &f, View<T, M, N> y, View<const T, M, K> x, const DenseWeights<T, K, N> &w)
{
   dense(f, y, x, w);
}

#endif

} // namespace sofie

SOFIE_END

#endif
