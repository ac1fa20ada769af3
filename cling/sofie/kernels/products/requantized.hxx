/// \file
/// Products of integers of 8 bits with constant weights, quantised again.
#ifndef SOFIE_KERNELS_PRODUCTS_REQUANTIZED_HXX
#define SOFIE_KERNELS_PRODUCTS_REQUANTIZED_HXX

#include "sofie/kernels/products/integers.hxx"
#include "sofie/kernels/quantization.hxx"

SOFIE_BEGIN

namespace sofie {

/// So many sums are quantised at a time.
inline constexpr int requantized_unit = 8;

/// y = round(sums * factors) + zero, for whole units, at least one: in float64, as `Requantize` does it.
template <class Y>
SOFIE_KERNEL void requantize_units(Y *y, const std::int32_t *sums, const double *factors, Y zero, Size units)
{
#ifdef SOFIE_TILE_ASSEMBLER
   using L = IntegerLimits<Y>;
   const double low = L::low - zero, high = L::high - zero;
   const std::int32_t offset = zero;
   // clang-format off
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_REQUANTIZE_HALF(a, half)                                                                        \
   "vcvtdq2pd (%[sums]), %%zmm0\n\t"                                                                           \
   "vmulpd (%[factors]), %%zmm0, %%zmm0\n\t"                                                                   \
   "vmaxpd %%zmm4, %%zmm0, %%zmm0\n\t"                                                                         \
   "vminpd %%zmm5, %%zmm0, %%zmm0\n\t"                                                                         \
   "vcvtpd2dq %%zmm0, %%ymm0\n\t"                                                                              \
   "vpaddd %%ymm6, %%ymm0, %%ymm0\n\t"
#define SOFIE_REQUANTIZE_UNIT SOFIE_REQUANTIZE_HALF(0, 0) "vpmovdb %%ymm0, (%[y])\n\t"
#else
#define SOFIE_REQUANTIZE_HALF(a, half)                                                                        \
   "vcvtdq2pd " #half "*16(%[sums]), %%ymm" #a "\n\t"                                                          \
   "vmulpd " #half "*32(%[factors]), %%ymm" #a ", %%ymm" #a "\n\t"                                             \
   "vmaxpd %%ymm4, %%ymm" #a ", %%ymm" #a "\n\t"                                                               \
   "vminpd %%ymm5, %%ymm" #a ", %%ymm" #a "\n\t"                                                               \
   "vcvtpd2dq %%ymm" #a ", %%xmm" #a "\n\t"                                                                    \
   "vpaddd %%xmm6, %%xmm" #a ", %%xmm" #a "\n\t"
#define SOFIE_REQUANTIZE_UNIT                                                                                 \
   SOFIE_REQUANTIZE_HALF(0, 0) SOFIE_REQUANTIZE_HALF(1, 1)                                                     \
   "vpackssdw %%xmm1, %%xmm0, %%xmm0\n\t"                                                                      \
   ".if %c[is_signed]\n\tvpacksswb %%xmm0, %%xmm0, %%xmm0\n\t"                                                 \
   ".else\n\tvpackuswb %%xmm0, %%xmm0, %%xmm0\n\t.endif\n\t"                                                   \
   "vmovq %%xmm0, (%[y])\n\t"
#endif
   asm volatile(
      "vbroadcastsd %[low], " SOFIE_PACK(4) "\n\t"
      "vbroadcastsd %[high], " SOFIE_PACK(5) "\n\t"
      "vpbroadcastd %[zero], %%ymm6\n"
      "1:\n\t"
      SOFIE_REQUANTIZE_UNIT
      "add $32, %[sums]\n\t"
      "add $64, %[factors]\n\t"
      "add $8, %[y]\n\t"
      "dec %[units]\n\t"
      "jnz 1b\n\t"
      : [sums] "+&r"(sums), [factors] "+&r"(factors), [y] "+&r"(y), [units] "+&r"(units)
      : [low] "m"(low), [high] "m"(high), [zero] "m"(offset), [is_signed] "i"(std::is_signed_v<Y> ? 1 : 0)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
#else
   constexpr int n = requantized_unit;
   for (Size i = 0; i < units * n; i += n) {
      const auto exact = convert<double>(load<n>(sums + i)) * load<n>(factors + i);
      store(y + i, to_integer<Y>(exact, splat<PackN<std::int32_t, n>>(zero)));
   }
#endif
}

/// The same for a row; behind less than a unit of sums and factors there is memory for all of it.
template <Size N, class Y>
SOFIE_INLINE void requantize_row(Y *y, const std::int32_t *sums, const double *factors, Y zero)
{
   constexpr Size n = requantized_unit, last = N - n;
   if constexpr (N < n) {
      Y some[n];
      requantize_units(some, sums, factors, zero, 1);
      __builtin_memcpy(y, some, static_cast<std::size_t>(N));
   } else {
      requantize_units(y, sums, factors, zero, N / n);
      // The last ones once more, with some of those before them.
      if constexpr (N % n != 0)
         requantize_units(y + last, sums + last, factors + last, zero, 1);
   }
}

/// y = round(integer_product(a, w) * scale_a * scale_b / scale_y) + zero_y; `inputs` are a with its scale and zero
/// point, scale_b, and scale_y with its zero point.
template <class Y, class Scratch, Size N, class... X>
SOFIE_INLINE void qlinear_product(Y y, Scratch scratch, const IntegerWeights<N> &w, const Sizes<2> &sizes, X... inputs)
{
   const auto all = std::tie(inputs...);
   const auto &a = std::get<0>(all);
   const auto &scale_b = std::get<3>(all);
   using T = typename Y::Element;
   using A = std::remove_const_t<typename std::decay_t<decltype(a)>::Element>;
   using S = std::remove_const_t<typename std::decay_t<decltype(scale_b)>::Element>;
   const Size m = sizes[0], k = sizes[1], most = m < integer_rows ? m : integer_rows;
   // Scratch has the factors, the sums of some rows, and these rows.
   double *const factors = reinterpret_cast<double *>(scratch.data());
   std::int32_t *const sums = reinterpret_cast<std::int32_t *>(factors + N + requantized_unit);
   char *const rows = reinterpret_cast<char *>(sums + most * N + requantized_unit);
   const auto scale_a = widened<S>(load<1>(std::get<1>(all).data()));
   const auto scale_y = widened<S>(load<1>(std::get<4>(all).data()));
   for (Size j = 0; j < N; ++j) {
      const auto one = widened<S>(load<1>(scale_b.data() + (scale_b.size() > 1 ? j : 0)));
      factors[j] = static_cast<double>((scale_a * one / scale_y)[0]);
   }
   const A zero_a = std::get<2>(all).data()[0];
   const T zero_y = std::get<5>(all).data()[0];
   for (Size first = 0; first < m; first += integer_rows) {
      const Size some = m - first < integer_rows ? m - first : integer_rows;
      integer_product(static_cast<void *>(sums), rows, static_cast<const A *>(a.data()) + first * k, zero_a, w, some, k,
                      IntegerScale{});
      for (Size r = 0; r < some; ++r)
         requantize_row<N>(y.data() + (first + r) * N, sums + r * N, factors, zero_y);
   }
}

} // namespace sofie

SOFIE_END

#endif
