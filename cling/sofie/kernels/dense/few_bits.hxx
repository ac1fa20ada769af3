/// \file
/// Dense layers that read their weights in few bits: for one row that is what takes the time where
/// they do not fit into a near cache.
///
/// A weight is widened to the float that it is before it is multiplied, in the order of `dense`: the
/// results are those of a `DenseWeights<float>` of the same numbers, to the last bit. Many rows read
/// weights that were widened when they were loaded.
#ifndef SOFIE_KERNELS_DENSE_FEW_BITS_HXX
#define SOFIE_KERNELS_DENSE_FEW_BITS_HXX

#include "sofie/assembler.hxx"
#include "sofie/kernels/dense.hxx"
#include "sofie/session/narrow.hxx"

SOFIE_BEGIN

namespace sofie {

/// Whether a row reads weights in few bits. With AVX-512 it pays as soon as somebody asks for it, with AVX2 where a
/// layer fills the second cache, without assembler nowhere.
#ifdef SOFIE_TILE_ASSEMBLER
template <Size K, Size N>
inline constexpr bool is_read_narrow = SOFIE_SIMD_BYTES == 64 || K * N >= Size{1} << 17;
/// From how many rows on they read floats: later where these come from afar.
template <Size K, Size N>
inline constexpr Size narrow_rows = K * N < Size{1} << 19 ? dense_tile_half : dense_tile_rows;
#else
template <Size K, Size N>
inline constexpr bool is_read_narrow = false;
template <Size K, Size N>
inline constexpr Size narrow_rows = 0;
#endif

/// Where a column is in a row of a panel of `width` packs: pack by pack, and bfloat16 two packs in turn, number by
/// number, so that 32 bits have one of each.
template <class Q>
SOFIE_INLINE Size narrow_place(Size column, Size width)
{
   constexpr Size n = lanes<float>;
   const Size pack = column / n, first = pack / 2 * 2;
   return std::is_same_v<Q, BFloat16> && first + 1 < width ? first * n + 2 * (column % n) + pack % 2 : column;
}

/// W[K, N] and b[N] as a `DenseWeights<float>` has them, and W in few bits as well; of int8 with a scale for
/// each column.
template <class Q, Size K, Size N>
class NarrowWeights : public DenseWeights<float, K, N> {
   using Wide = Widened<View<const float, K, N>>;
   using S = DenseShape<float, N>;
   static_assert(S::chains == 1, "layers of few columns have another order of summation");
   static constexpr Size columns = S::width * lanes<float>;
   Buffer<Q> panels_;
   Buffer<float> scales_;

   void pack(View<const Q, K, N> w)
   {
      if constexpr (is_read_narrow<K, N>) {
         panels_ = Buffer<Q>(S::panels * K * columns);
         for (Size k = 0; k < K; ++k)
            for (Size j = 0; j < N; ++j)
               panels_.data()[(j / columns * K + k) * columns + narrow_place<Q>(j % columns, S::width)] =
                  w.data()[k * N + j];
      }
   }

public:
   NarrowWeights(View<const Q, K, N> w, View<const float, N> b) : DenseWeights<float, K, N>(Wide(w).view(), b)
   {
      pack(w);
   }
   NarrowWeights(View<const Q, K, N> w, View<const float, N> scales, View<const float, N> b)
      : DenseWeights<float, K, N>(Wide(w, scales, Size{1}).view(), b), scales_(S::panels * columns)
   {
      pack(w);
      __builtin_memcpy(scales_.data(), scales.data(), static_cast<std::size_t>(N) * sizeof(float));
   }
   SOFIE_INLINE const Q *narrow_panel(Size p) const { return panels_.data() + p * K * columns; }
   SOFIE_INLINE const float *scales(Size p) const { return scales_.data() + p * columns; }
};

#ifdef SOFIE_TILE_ASSEMBLER
// clang-format off
// A pack of weights as floats, and its product.
#define SOFIE_NARROW_PRODUCT(w) "vfmadd231ps " w ", " SOFIE_DENSE_X(31) ", " SOFIE_ROW_PACK "\n\t"
#define SOFIE_NARROW_PACK(load, size) load " " SOFIE_ROW_PLACE "*" #size "/4(%[w]), " SOFIE_DENSE_W0 "\n\t"
#define SOFIE_NARROW_UPPER(to) "vpslld $16, " SOFIE_DENSE_W0 ", " to "\n\t" SOFIE_NARROW_PRODUCT(to)
#define SOFIE_NARROW_BFLOATS                                                                                \
   ".if \\a & 1\n\tvandps " SOFIE_DENSE_W0 ", " SOFIE_DENSE_W2 ", " SOFIE_DENSE_W0 "\n\t"                    \
   SOFIE_NARROW_PRODUCT(SOFIE_DENSE_W0)                                                                     \
   ".elseif \\a+1 < %c[packs]\n\t" SOFIE_NARROW_PACK("vmovups", 2) SOFIE_NARROW_UPPER(SOFIE_DENSE_W1)      \
   ".else\n\t" SOFIE_NARROW_PACK("vpmovzxwd", 2) SOFIE_NARROW_UPPER(SOFIE_DENSE_W0) ".endif\n\t"
#define SOFIE_NARROW_HALVES SOFIE_NARROW_PACK("vcvtph2ps", 2) SOFIE_NARROW_PRODUCT(SOFIE_DENSE_W0)
#define SOFIE_NARROW_BYTES                                                                                  \
   SOFIE_NARROW_PACK("vpmovsxbd", 1) "vcvtdq2ps " SOFIE_DENSE_W0 ", " SOFIE_DENSE_W0 "\n\t"                 \
   "vmulps " SOFIE_ROW_PLACE "(%[scales]), " SOFIE_DENSE_W0 ", " SOFIE_DENSE_W0 "\n\t"                      \
   SOFIE_NARROW_PRODUCT(SOFIE_DENSE_W0)
#define SOFIE_NARROW_ROW(products)                                                                          \
   asm volatile(                                                                                            \
      SOFIE_ROW_ZERO("%c[packs]")                                                                           \
      "vbroadcastss %[upper], " SOFIE_DENSE_W2 "\n\t"                                                       \
      ".p2align 5\n"                                                                                        \
      "1:\n\t"                                                                                              \
      "vbroadcastss (%[x]), " SOFIE_DENSE_X(31) "\n\t"                                                      \
      SOFIE_ROW_EACH("%c[packs]", products)                                                                 \
      "add $4, %[x]\n\t"                                                                                    \
      "add %[next], %[w]\n\t"                                                                               \
      "dec %[k]\n\t"                                                                                        \
      "jnz 1b\n\t"                                                                                          \
      "mov %c[end_y](%[end]), %[x]\n\t"                                                                     \
      SOFIE_ROW_END                                                                                         \
      : [x] "+&r"(x), [w] "+&r"(w), [k] "+&r"(depth)                                                        \
      : [scales] "r"(scales), [end] "r"(&end), [upper] "m"(upper),                                          \
        SOFIE_MEMBERS(end, DenseRowEnd, y, bias, mask, relu),                                              \
        [packs] "i"(Packs), [next] "i"(Packs * lanes<float> * sizeof(Q))                                    \
      : "memory", "cc", SOFIE_DENSE_REGISTERS)
// clang-format on

/// y[j] = sum_k x[k] * w[k][j] for `Packs` packs of columns and at least one k.
template <int Packs, class Q>
SOFIE_KERNEL void narrow_row(const float *x, const Q *w, const float *scales, Size depth, const DenseRowEnd &end)
{
   const std::int32_t upper = -0x10000; // The upper half of a lane.
   if constexpr (std::is_same_v<Q, BFloat16>)
      SOFIE_NARROW_ROW(SOFIE_NARROW_BFLOATS);
   else if constexpr (std::is_same_v<Q, Float16>)
      SOFIE_NARROW_ROW(SOFIE_NARROW_HALVES);
   else
      SOFIE_NARROW_ROW(SOFIE_NARROW_BYTES);
}

/// One row of sums, of a panel.
template <int Width, class Q, Size K, Size N>
SOFIE_INLINE void dense_row_of(const NarrowWeights<Q, K, N> &w, Size panel, const float *x, const DenseRowEnd &end)
{
   narrow_row<Width>(x, w.narrow_panel(panel), w.scales(panel), K, end);
}
#endif

/// y[m, n] = f(sum_k x[m, k] * w[k, n] + b[n]), where w is in few bits; many rows read floats.
template <class F, class Q, Size M, Size K, Size N>
SOFIE_KERNEL void dense(const F &f, View<float, M, N> y, View<const float, M, K> x, const NarrowWeights<Q, K, N> &w)
{
   if constexpr (is_read_narrow<K, N>)
      if (M == 1 || x.template extent<0>() < narrow_rows<K, N>)
         return dense_one_by_one(f, y, x, w);
   if constexpr (M != 1 || !is_read_narrow<K, N>)
      dense(f, y, x, static_cast<const DenseWeights<float, K, N> &>(w));
}

/// Layers whose weights would be packed for another kernel, were they not in few bits.
template <class F, class Q, Size M, Size K, Size N>
SOFIE_INLINE void dense_far(const F &f, View<float, M, N> y, View<const float, M, K> x, const NarrowWeights<Q, K, N> &w)
{
   dense(f, y, x, w);
}

} // namespace sofie

SOFIE_END

#endif
