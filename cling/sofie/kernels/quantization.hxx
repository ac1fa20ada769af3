/// \file
/// Quantisation: numbers as integers of few bits, with a scale and a zero point.
#ifndef SOFIE_KERNELS_QUANTIZATION_HXX
#define SOFIE_KERNELS_QUANTIZATION_HXX

#include "sofie/kernels/dense/tile.hxx"
#include "sofie/math/rounding.hxx"
#include "sofie/storage.hxx"

SOFIE_BEGIN

namespace sofie {

/// The bits of x as elements of another type of the same size.
template <class Y, class X>
SOFIE_KERNEL void copy_bits(Y y, X x)
{
   using T = typename Y::Element;
   static_assert(sizeof(T) == sizeof(typename X::Element), "bits are read as elements of the same size");
   if constexpr (std::is_same_v<T, bool>) {
      // A bool is 0 or 1, and nothing else.
      for (Size i = 0; i < y.size(); ++i)
         y.data()[i] = *reinterpret_cast<const unsigned char *>(x.data() + i) != 0;
   } else {
      __builtin_memcpy(y.data(), x.data(), static_cast<std::size_t>(y.size()) * sizeof(T));
   }
}

// Element by element ------------------------------------------------------------------------------

/// The least and the largest integer of an element type, in an int32.
template <class T>
struct IntegerLimits {
   static constexpr bool is_integer = std::is_integral_v<T>;
   static constexpr int digits = 8 * static_cast<int>(sizeof(T));
   static constexpr std::int32_t low = std::is_signed_v<T> ? -(1 << (digits - 1)) : 0;
   static constexpr std::int32_t high = std::is_signed_v<T> ? (1 << (digits - 1)) - 1 : (1 << digits) - 1;
};
template <class F>
struct IntegerLimits<Stored<F>> {
   static constexpr bool is_integer = false;
};
template <int Width, bool Signed>
struct IntegerLimits<Stored<IntegerFormat<Width, Signed>>> {
   static constexpr bool is_integer = true;
   static constexpr std::int32_t low = Signed ? -(1 << (Width - 1)) : 0;
   static constexpr std::int32_t high = Signed ? (1 << (Width - 1)) - 1 : (1 << Width) - 1;
};

/// `quotient` + `zero` as an element of type `Y`, an integer one: rounded before the addition, and
/// the nearest one that there is. NaN becomes the least.
template <class Y, class V, class Z>
SOFIE_INLINE PackN<Y, width<V>> to_integer(V quotient, Z zero)
{
   using L = IntegerLimits<Y>;
   using C = ElementOf<V>;
   const V offset = convert<C>(zero);
   const V low = splat<V>(static_cast<C>(L::low)) - offset, high = splat<V>(static_cast<C>(L::high)) - offset;
   V rounded = round_even(quotient);
   rounded = select(rounded > low, rounded, low);
   rounded = select(rounded < high, rounded, high);
   return narrowed<Y>(convert<std::int32_t>(rounded) + zero);
}

/// Numbers as they are in the element type `P`, in the type that `P` is computed in.
template <class P, class V>
SOFIE_INLINE PackN<Computed<P>, width<V>> in_precision(V v)
{
   return widened<P>(narrowed<P>(v));
}

/// x / scale + zero, the division in the precision of `P`.
template <class P, class Y, class X, class S>
struct Quantize {
   bool saturate = true;
   static constexpr int n = lanes<Computed<P>>;

   SOFIE_INLINE PackN<Y, n> operator()(PackN<X, n> x, PackN<S, n> scale, PackN<Y, n> zero) const
   {
      const auto quotient = in_precision<P>(in_precision<P>(widened<X>(x)) / in_precision<P>(widened<S>(scale)));
      if constexpr (IntegerLimits<Y>::is_integer)
         return to_integer<Y>(quotient, convert<std::int32_t>(widened<Y>(zero)));
      else
         return narrowed<Y>(quotient + convert<Computed<P>>(widened<Y>(zero)), CastRounding{saturate, 0});
   }
};

/// (x - zero) * scale, in float32.
template <class Y, class X, class S>
struct Dequantize {
   static constexpr int n = lanes<float>;

   SOFIE_INLINE PackN<Y, n> operator()(PackN<X, n> x, PackN<S, n> scale, PackN<X, n> zero) const
   {
      const auto above = minus(widened_integer(widened<X>(x)), widened_integer(widened<X>(zero)));
      return narrowed<Y>(convert<float>(above) * convert<float>(widened<S>(scale)));
   }

private:
   /// Integers as int32, in which their difference is exact; floats as they are.
   template <class V>
   SOFIE_INLINE static auto widened_integer(V v)
   {
      if constexpr (std::is_integral_v<ElementOf<V>>)
         return convert<std::int32_t>(v);
      else
         return v;
   }
};

// A scale for each tensor, position of an axis, or block ------------------------------------------

/// How scales lie over the elements of [outer, length, inner]: `block` positions of the middle axis
/// share theirs, and so do all of an inner row unless it has a scale for each element.
struct ScaleBlocks {
   Size outer, length, inner, block;
   Size per_outer; ///< how far apart the scales of neighbours along the outer axis are
};

#ifdef SOFIE_TILE_ASSEMBLER
// clang-format off
// `each` of the four packs of a block.
#define SOFIE_QUANTIZE_EACH(each) each(0) each(1) each(2) each(3)
#define SOFIE_QUANTIZE_LOAD(a) "vmovups " #a "*" SOFIE_PACK_BYTES "(%[x]), " SOFIE_PACK(a) "\n\t"
// Quotients within bounds that are integers, which NaN is below of; and rounded, to the even one of two.
#define SOFIE_QUANTIZE_DIVIDE(a)                                                     \
   "vdivps " SOFIE_PACK(4) ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"              \
   "vmaxps " SOFIE_PACK(5) ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"              \
   "vminps " SOFIE_PACK(6) ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"              \
   "vcvtps2dq " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"                              \
   "vpaddd " SOFIE_PACK(7) ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
// The lowest byte of each.
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_QUANTIZE_PUT(a) "vpmovdb " SOFIE_PACK(a) ", " #a "*16(%[y])\n\t"
#define SOFIE_QUANTIZE_STORE SOFIE_QUANTIZE_EACH(SOFIE_QUANTIZE_PUT)
#define SOFIE_QUANTIZE_NAN(a, b) "vcmpunordps " SOFIE_PACK(a) ", " SOFIE_PACK(b) ", %%k1\n\tkorw %%k1, %%k2, %%k2\n\t"
#define SOFIE_QUANTIZE_IS_NAN "kortestw %%k2, %%k2\n\t"
#define SOFIE_QUANTIZE_NO_NAN "kxorw %%k2, %%k2, %%k2\n\t"
#define SOFIE_QUANTIZE_HALVES(op, a, b) "vextractf64x4 $1, %%zmm" #a ", %%ymm" #b "\n\t" SOFIE_QUANTIZE_FOLD(op, "ymm", a, b)
#define SOFIE_QUANTIZE_REGISTERS "k2", SOFIE_DENSE_REGISTERS
#else
#define SOFIE_QUANTIZE_STORE                                                         \
   "vpackssdw %%ymm1, %%ymm0, %%ymm0\n\t"                                            \
   "vpackssdw %%ymm3, %%ymm2, %%ymm2\n\t"                                            \
   ".if %c[is_signed]\n\tvpacksswb %%ymm2, %%ymm0, %%ymm0\n\t"                      \
   ".else\n\tvpackuswb %%ymm2, %%ymm0, %%ymm0\n\t.endif\n\t"                      \
   "vpermd %%ymm0, %%ymm8, %%ymm0\n\t"                                               \
   "vmovdqu %%ymm0, (%[y])\n\t"
#define SOFIE_QUANTIZE_NAN(a, b) "vcmpunordps %%ymm" #a ", %%ymm" #b ", %%ymm9\n\tvorps %%ymm9, %%ymm8, %%ymm8\n\t"
#define SOFIE_QUANTIZE_IS_NAN "vptest %%ymm8, %%ymm8\n\t"
#define SOFIE_QUANTIZE_NO_NAN "vpxor %%ymm8, %%ymm8, %%ymm8\n\t"
#define SOFIE_QUANTIZE_HALVES(op, a, b)
#define SOFIE_QUANTIZE_REGISTERS SOFIE_DENSE_REGISTERS
#endif
// What a pack adds to the least and the largest numbers, of which there are two packs each.
#define SOFIE_QUANTIZE_EXTREMES(a, least, most)                                      \
   "vminps " SOFIE_PACK(least) ", " SOFIE_PACK(a) ", " SOFIE_PACK(least) "\n\t"      \
   "vmaxps " SOFIE_PACK(most) ", " SOFIE_PACK(a) ", " SOFIE_PACK(most) "\n\t"
// `op` of all lanes of pack a, in the first of them.
#define SOFIE_QUANTIZE_FOLD(op, kind, a, b) op " %%" kind #b ", %%" kind #a ", %%" kind #a "\n\t"
#define SOFIE_QUANTIZE_LANES(op, a, b)                                               \
   SOFIE_QUANTIZE_HALVES(op, a, b)                                                   \
   "vextractf128 $1, %%ymm" #a ", %%xmm" #b "\n\t" SOFIE_QUANTIZE_FOLD(op, "xmm", a, b)  \
   "vmovhlps %%xmm" #a ", %%xmm" #a ", %%xmm" #b "\n\t" SOFIE_QUANTIZE_FOLD(op, "xmm", a, b) \
   "vmovshdup %%xmm" #a ", %%xmm" #b "\n\t" SOFIE_QUANTIZE_FOLD(op, "xmm", a, b)
// `text` for each block of the `left` numbers at x. The last block is the last numbers, of which some may have been
// done; `back` goes there.
#define SOFIE_QUANTIZE_LOOP(text, back)                                              \
   "1:\n\t"                                                                          \
   SOFIE_QUANTIZE_EACH(SOFIE_QUANTIZE_LOAD) text                                     \
   "add $4*" SOFIE_PACK_BYTES ", %[x]\n\t"                                           \
   "sub $" SOFIE_PACK_BYTES ", %[left]\n\t"                                          \
   "jle 2f\n\t"                                                                      \
   "cmp $" SOFIE_PACK_BYTES ", %[left]\n\t"                                          \
   "jge 1b\n\t"                                                                      \
   "lea -4*" SOFIE_PACK_BYTES "(%[x],%[left],4), %[x]\n\t" back                      \
   "jmp 1b\n"                                                                        \
   "2:\n\t"
// clang-format on

/// Of such numbers, four packs, are the blocks that assembler does at a time: as many as a pack has bytes.
inline constexpr Size quantize_block = SOFIE_SIMD_BYTES;

/// round(x / scale) + zero in 8 bits, for at least one block of numbers.
template <class Y>
SOFIE_KERNEL void quantize_in_blocks(Y *y, const float *x, float scale, Y zero, Size count)
{
   using L = IntegerLimits<Y>;
   const float low = static_cast<float>(L::low - zero), high = static_cast<float>(L::high - zero);
   const std::int32_t offset = zero;
   [[maybe_unused]] static constexpr std::int32_t order[8] = {0, 4, 1, 5, 2, 6, 3, 7};
   // clang-format off
   asm volatile(
      "vbroadcastss %[scale], " SOFIE_PACK(4) "\n\t"
      "vbroadcastss %[low], " SOFIE_PACK(5) "\n\t"
      "vbroadcastss %[high], " SOFIE_PACK(6) "\n\t"
      "vpbroadcastd %[zero], " SOFIE_PACK(7) "\n\t"
      "vmovdqu (%[order]), %%ymm8\n"
      SOFIE_QUANTIZE_LOOP(
         SOFIE_QUANTIZE_EACH(SOFIE_QUANTIZE_DIVIDE) SOFIE_QUANTIZE_STORE "add $" SOFIE_PACK_BYTES ", %[y]\n\t",
         "lea -" SOFIE_PACK_BYTES "(%[y],%[left]), %[y]\n\t")
      : [x] "+&r"(x), [y] "+&r"(y), [left] "+&r"(count)
      : [scale] "m"(scale), [low] "m"(low), [high] "m"(high), [zero] "m"(offset), [order] "r"(order),
        [is_signed] "i"(std::is_signed_v<Y> ? 1 : 0)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}

/// The scale and the zero point of `quantize_dynamically` for at least one block of numbers. One that is NaN makes the
/// least one NaN, and so the scale.
SOFIE_KERNEL inline void dynamic_scale(float *scale, std::uint8_t *zero, const float *x, Size count)
{
   static constexpr float steps = 255;
   // clang-format off
   asm volatile(
      SOFIE_DENSE_ZERO(4) SOFIE_DENSE_ZERO(5) SOFIE_DENSE_ZERO(6) SOFIE_DENSE_ZERO(7) SOFIE_QUANTIZE_NO_NAN
      SOFIE_QUANTIZE_LOOP(
         SOFIE_QUANTIZE_EXTREMES(0, 4, 6) SOFIE_QUANTIZE_EXTREMES(1, 5, 7) SOFIE_QUANTIZE_NAN(0, 1)
         SOFIE_QUANTIZE_EXTREMES(2, 4, 6) SOFIE_QUANTIZE_EXTREMES(3, 5, 7) SOFIE_QUANTIZE_NAN(2, 3), )
      SOFIE_QUANTIZE_EXTREMES(5, 4, 5) SOFIE_QUANTIZE_EXTREMES(7, 7, 6)
      SOFIE_QUANTIZE_LANES("vminps", 4, 5)
      SOFIE_QUANTIZE_LANES("vmaxps", 6, 7)
      SOFIE_QUANTIZE_IS_NAN
      "jz 5f\n\t"
      "vpcmpeqd %%xmm4, %%xmm4, %%xmm4\n"
      "5:\n\t"
      "vsubss %%xmm4, %%xmm6, %%xmm6\n\t"
      "vdivss (%[steps]), %%xmm6, %%xmm6\n\t"
      "vmovss %%xmm6, (%[scale])\n\t"
      "vdivss %%xmm6, %%xmm4, %%xmm4\n\t"
      "vpxor %%xmm5, %%xmm5, %%xmm5\n\t"
      "vsubss %%xmm4, %%xmm5, %%xmm4\n\t"
      "vmaxss %%xmm5, %%xmm4, %%xmm4\n\t" // Where all is zero, 0 / 0 becomes zero.
      "vminss (%[steps]), %%xmm4, %%xmm4\n\t"
      "vcvtss2si %%xmm4, %k[left]\n\t"
      "mov %b[left], (%[zero])\n\t"
      : [x] "+&r"(x), [left] "+&r"(count)
      : [scale] "r"(scale), [zero] "r"(zero), [steps] "r"(&steps)
      : "memory", "cc", SOFIE_QUANTIZE_REGISTERS);
   // clang-format on
}
#endif

/// `count` neighbours with one scale, or with one for each.
template <bool Each, class F, class Y, class X, class S, class Z>
SOFIE_INLINE void quantize_run(const F &f, Y *y, const X *x, const S *scale, const Z *zero, Size count)
{
   constexpr int n = F::n;
   using Scale = PackN<S, n>;
   using Zero = PackN<Z, n>;
   const Scale one = count > 0 ? splat<Scale>(load<1>(scale)[0]) : Scale{};
   const Zero offset = count > 0 && zero ? splat<Zero>(load<1>(zero)[0]) : Zero{};
#ifdef SOFIE_TILE_ASSEMBLER
   constexpr bool is_byte = std::is_same_v<Y, std::int8_t> || std::is_same_v<Y, std::uint8_t>;
   if constexpr (!Each && is_byte && std::is_same_v<F, Quantize<float, Y, float, float>>) {
      if (count >= quantize_block)
         return quantize_in_blocks(y, x, *scale, zero ? *zero : Y{}, count);
   }
#endif
   for (Size i = 0; i < count; i += n) {
      const Size some = count - i < n ? count - i : n;
      if constexpr (Each)
         store_some(
            y + i,
            f(load_some<n>(x + i, some), load_some<n>(scale + i, some), zero ? load_some<n>(zero + i, some) : Zero{}),
            some);
      else
         store_some(y + i, f(load_some<n>(x + i, some), one, offset), some);
   }
}

template <bool Each, class F, class Y, class X, class S, class Z>
SOFIE_KERNEL void quantize_blocks(const F &f, Y *y, const X *x, const S *scale, const Z *zero, ScaleBlocks shape)
{
   // With a scale for each element, rows are by themselves; else a block of them is one run.
   const Size rows = Each ? 1 : shape.block, per_block = Each ? shape.inner : 1;
   for (Size o = 0; o < shape.outer; ++o) {
      for (Size i = 0; i < shape.length; i += rows) {
         const Size taken = shape.length - i < rows ? shape.length - i : rows;
         const Size from = (o * shape.length + i) * shape.inner;
         const Size at = o * shape.per_outer + i / shape.block * per_block;
         quantize_run<Each>(f, y + from, x + from, scale + at, zero ? zero + at : nullptr, taken * shape.inner);
      }
   }
}

/// y = x / scale + zero, with the precision of `P` in the division.
template <bool Each, class P, class Y, class X, class S, class... Zero>
SOFIE_INLINE void quantize(Y y, bool saturate, const Sizes<5> &shape, X x, S scale, Zero... zero)
{
   using T = typename Y::Element;
   using F = Quantize<P, T, std::remove_const_t<typename X::Element>, std::remove_const_t<typename S::Element>>;
   const T *const less = data_of(zero...);
   quantize_blocks<Each>(F{saturate}, y.data(), x.data(), scale.data(), less,
                         ScaleBlocks{shape[0], shape[1], shape[2], shape[3], shape[4]});
}

/// y = (x - zero) * scale
template <bool Each, class Y, class X, class S, class... Zero>
SOFIE_INLINE void dequantize(Y y, const Sizes<5> &shape, X x, S scale, Zero... zero)
{
   using T = std::remove_const_t<typename X::Element>;
   using F = Dequantize<typename Y::Element, T, std::remove_const_t<typename S::Element>>;
   const T *const less = data_of(zero...);
   quantize_blocks<Each>(F{}, y.data(), x.data(), scale.data(), less,
                         ScaleBlocks{shape[0], shape[1], shape[2], shape[3], shape[4]});
}

/// The scale and the zero point with which 0 ... 255 reach from the least to the largest element
/// and zero is one of them; and the elements so.
SOFIE_KERNEL inline void quantize_dynamically(std::uint8_t *y, float *scale, std::uint8_t *zero, const float *x,
                                              Size count)
{
   constexpr int n = lanes<float>;
#ifdef SOFIE_TILE_ASSEMBLER
   float few[static_cast<std::size_t>(quantize_block)] = {};
   if (count < quantize_block)
      for (Size i = 0; i < count; i += n)
         store(few + i, load_some<n>(x + i, count - i < n ? count - i : n));
   dynamic_scale(scale, zero, count < quantize_block ? few : x, count < quantize_block ? quantize_block : count);
#else
   using V = Pack<float>;
   V least{}, most{};
   for (Size i = 0; i < count; i += n) {
      const V v = load_some<n>(x + i, count - i < n ? count - i : n);
      least = select((v < least) | (v != v), v, least);
      most = select((v > most) | (v != v), v, most);
   }
   float low = 0, high = 0;
   for (int i = 0; i < n; ++i) {
      low = least[i] < low || least[i] != least[i] ? least[i] : low;
      high = most[i] > high || most[i] != most[i] ? most[i] : high;
   }
   *scale = (high - low) / 255.0f;
   // Where all is zero, 0 / 0 becomes zero.
   *zero =
      static_cast<std::uint8_t>(to_integer<std::uint8_t>(splat<V>(0.0f - low / *scale), PackN<std::int32_t, n>{})[0]);
#endif
   quantize_run<false>(Quantize<float, std::uint8_t, float, float>{}, y, x, scale, zero, count);
}

template <class Y, class S, class Z, class X>
SOFIE_INLINE void dynamic_quantize(Y y, S scale, Z zero, X x)
{
   quantize_dynamically(y.data(), scale.data(), zero.data(), x.data(), x.size());
}

// Matrix products ---------------------------------------------------------------------------------

/// Numbers for the matrices of a batch: how far apart those of neighbouring matrices, and those of
/// neighbouring rows (or columns) are; both are 0 where there is one number for all.
template <class T>
struct PerVector {
   const T *data;
   Size per_matrix, per_vector;

   SOFIE_INLINE PerVector of_matrix(Size number) const
   {
      return {data ? data + number * per_matrix : data, 0, per_vector};
   }
   /// Numbers `first`, ... of a matrix; zeros where there are none.
   template <int N>
   SOFIE_INLINE PackN<T, N> pack(Size first, Size count) const
   {
      using V = PackN<T, N>;
      if (!data)
         return V{};
      return per_vector ? load_some<N>(data + first, count) : splat<V>(load<1>(data)[0]);
   }
   SOFIE_INLINE PackN<T, 1> one(Size number) const
   {
      return data ? load<1>(data + number * per_vector) : PackN<T, 1>{};
   }
};

/// What products of elements of type `T` are added in: int32, which wraps, or float.
template <class T>
using ProductSum = std::conditional_t<std::is_integral_v<T>, std::int32_t, Computed<T>>;

/// The sum itself.
struct KeepSum {
   SOFIE_INLINE KeepSum of_matrices(Size, Size) const { return *this; }
   template <class Y, class V>
   SOFIE_INLINE V operator()(V sum, Size, Size, Size) const
   {
      return sum;
   }
};

/// The sum, which has the scale of the row times that of the column, in the scale of the result.
template <class Y, class SA, class SB, class SY>
struct Requantize {
   PerVector<SA> a;
   PerVector<SB> b;
   const SY *scale;
   const Y *zero;

   SOFIE_INLINE Requantize of_matrices(Size p, Size q) const { return {a.of_matrix(p), b.of_matrix(q), scale, zero}; }

   template <class Out, class V>
   SOFIE_INLINE PackN<Out, width<V>> operator()(V sum, Size row, Size column, Size count) const
   {
      constexpr int n = width<V>;
      using F = PackN<float, n>;
      const float per_row = widened<SA>(a.one(row))[0], whole = widened<SY>(load<1>(scale))[0];
      const F factor = splat<F>(per_row) * widened<SB>(b.template pack<n>(column, count)) / splat<F>(whole);
      using Wider = std::conditional_t<std::is_same_v<ElementOf<V>, float>, float, double>;
      const auto result = convert<Wider>(sum) * convert<Wider>(factor);
      const auto offset = widened<Out>(load<1>(zero));
      if constexpr (IntegerLimits<Out>::is_integer)
         return to_integer<Out>(result, splat<PackN<std::int32_t, n>>(static_cast<std::int32_t>(offset[0])));
      else
         return narrowed<Out>(result + splat<PackN<Wider, n>>(static_cast<Wider>(offset[0])));
   }
};

/// a[m, k] and b[k, n], each less its zero points.
template <class A, class B>
struct QuantizedMatrices {
   const A *a;
   PerVector<A> zero_a;
   const B *b;
   PerVector<B> zero_b;
   Size m, k, n;
};

/// Four rows (or fewer, the last one again instead) and the columns of two packs.
template <class Finish, class Y, class A, class B>
SOFIE_INLINE void product_tile(const Finish &finish, Y *y, const QuantizedMatrices<A, B> &of, Size row, Size column)
{
   const Size k = of.k, n = of.n, rows = of.m - row < 4 ? of.m - row : 4;
   using P = ProductSum<A>;
   using V = Pack<P>;
   constexpr int width_ = lanes<P>;
   const Size some[2] = {n - column < width_ ? n - column : width_, n - column < width_       ? 0
                                                                    : n - column < 2 * width_ ? n - column - width_
                                                                                              : width_};
   V sum[4][2] = {}, less[2];
   for (int c = 0; c < 2; ++c)
      less[c] = convert<P>(widened<B>(of.zero_b.template pack<width_>(column + c * width_, some[c])));
   const A *from[4];
   P less_a[4];
   for (Size r = 0; r < 4; ++r) {
      const Size number = r < rows ? row + r : row + rows - 1;
      from[r] = of.a + number * k;
      less_a[r] = convert<P>(widened<A>(of.zero_a.one(number)))[0];
   }
   const B *line = of.b + column;
   for (Size i = 0; i < k; ++i, line += n) {
      V right[2];
   SOFIE_UNROLL_ALL
      for (int c = 0; c < 2; ++c)
         right[c] = minus(convert<P>(widened<B>(load_some<width_>(line + c * width_, some[c]))), less[c]);
      SOFIE_UNROLL_ALL
      for (int r = 0; r < 4; ++r) {
         const V left = splat<V>(convert<P>(widened<A>(load<1>(from[r] + i)))[0]) - splat<V>(less_a[r]);
         SOFIE_UNROLL_ALL
         for (int c = 0; c < 2; ++c)
            sum[r][c] = plus(sum[r][c], times(left, right[c]));
      }
   }
   for (int r = 0; r < rows; ++r)
      for (int c = 0; c < 2; ++c)
         if (some[c] > 0)
            store_some(y + (row + r) * n + column + c * width_,
                       finish.template operator()<Y>(sum[r][c], row + r, column + c * width_, some[c]), some[c]);
}

/// y[m, n] = sum_k (a[m, k] - zero_a) * (b[k, n] - zero_b), and what `finish` makes of it.
template <class Finish, class Y, class A, class B>
SOFIE_KERNEL void product_of_matrices(const Finish &finish, Y *y, const QuantizedMatrices<A, B> &of)
{
   constexpr Size columns = 2 * lanes<ProductSum<A>>;
   for (Size column = 0; column < of.n; column += columns)
      for (Size row = 0; row < of.m; row += 4)
         product_tile(finish, y, of, row, column);
}

/// A product for each matrix of a batch, the first of which are `first`. `outer` is the shape of the
/// batch, of which `left` and `right` say how far apart neighbouring matrices of a and b are.
template <class Finish, class Y, class A, class B, int R>
SOFIE_INLINE void batched_product(const Finish &finish, Y *y, const QuantizedMatrices<A, B> &first,
                                  const Sizes<R> &outer, const Sizes<R> &left, const Sizes<R> &right)
{
   const Size m = first.m, k = first.k, n = first.n;
   Size count = 1;
   for (int axis = 0; axis < R; ++axis)
      count *= outer[axis];
   for (Size i = 0; i < count; ++i) {
      Size rest = i, p = 0, q = 0;
      for (int axis = R - 1; axis >= 0; --axis) {
         const Size at = rest % outer[axis];
         rest /= outer[axis];
         p += at * left[axis];
         q += at * right[axis];
      }
      const QuantizedMatrices<A, B> of{first.a + p * m * k, first.zero_a.of_matrix(p), first.b + q * k * n,
                                       first.zero_b.of_matrix(q), m, k, n};
      product_of_matrices(finish.of_matrices(p, q), y + i * m * n, of);
   }
}

/// The integer product in int32, with zero points or without. `sizes` is m, k, n; then for each number that may differ
/// from matrix to matrix, or row to row, how far apart neighbours are.
template <class Y, class A, class B, int R, class... Zeros>
SOFIE_INLINE void matmul_integer(Y y, A a, B b, const Sizes<7> &sizes, const Sizes<R> &outer, const Sizes<R> &left,
                                 const Sizes<R> &right, Zeros... zeros)
{
   using TA = std::remove_const_t<typename A::Element>;
   using TB = std::remove_const_t<typename B::Element>;
   const auto less = std::tie(zeros...);
   const PerVector<TA> zero_a{data_of(std::get<0>(less)), sizes[3], sizes[4]};
   const PerVector<TB> zero_b{data_of(std::get<1>(less)), sizes[5], sizes[6]};
   const QuantizedMatrices<TA, TB> first{a.data(), zero_a, b.data(), zero_b, sizes[0], sizes[1], sizes[2]};
   batched_product(KeepSum{}, y.data(), first, outer, left, right);
}

/// A quantised tensor with its scale and its zero point.
template <class X, class Scale, class Zero>
struct Quantized {
   X x;
   Scale scale;
   Zero zero;
};
template <class X, class Scale, class Zero>
Quantized(X, Scale, Zero) -> Quantized<X, Scale, Zero>;

/// The product of two quantised tensors, quantised again.
template <class Y, class A, class B, int R>
SOFIE_INLINE void qlinear_matmul(const Y &y, const A &a, const B &b, const Sizes<11> &sizes, const Sizes<R> &outer,
                                 const Sizes<R> &left, const Sizes<R> &right)
{
   using TA = std::remove_const_t<typename decltype(a.x)::Element>;
   using TB = std::remove_const_t<typename decltype(b.x)::Element>;
   using S = std::remove_const_t<typename decltype(a.scale)::Element>;
   const PerVector<TA> less_a{a.zero.data(), sizes[3], sizes[4]};
   const PerVector<TB> less_b{b.zero.data(), sizes[5], sizes[6]};
   const Requantize<typename decltype(y.x)::Element, S, S, S> finish{
      {a.scale.data(), sizes[7], sizes[8]}, {b.scale.data(), sizes[9], sizes[10]}, y.scale.data(), y.zero.data()};
   const QuantizedMatrices<TA, TB> first{a.x.data(), less_a, b.x.data(), less_b, sizes[0], sizes[1], sizes[2]};
   batched_product(finish, y.x.data(), first, outer, left, right);
}

} // namespace sofie

SOFIE_END

#endif
