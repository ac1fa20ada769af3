/// \file
/// Products of integers of 8 bits with constant weights.
///
/// A step is 32 bits of a row: four bytes, where the CPU multiplies and adds them up with one instruction (VNNI), else
/// two numbers of 16 bits. Both are exact, and what is summed in 32 bits wraps around.
///
/// VNNI wants bytes without a sign times bytes with one. So 128 is added to a, or taken from b, where they are of the
/// other kind. With such a and b, and their zero points p and q, the sum of (a - p) * (b - q) is that of a * b, less p
/// times the sum of b - q, less q times the sum of a: what does not depend on the row is where a sum begins, and sums
/// of rows are taken only where there is a q. Pairs of 16 bits have room for a - p and b - q themselves.
#ifndef SOFIE_KERNELS_PRODUCTS_INTEGERS_HXX
#define SOFIE_KERNELS_PRODUCTS_INTEGERS_HXX

#include "sofie/kernels/dense/tile.hxx"
#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// The packs of columns of a panel of weights, and the rows that go through all panels together.
inline constexpr Size integer_packs = 3, integer_rows = 64;
inline constexpr Size integer_columns = integer_packs * lanes<std::int32_t>;

/// Whether the CPU has VNNI for the registers of this instruction set. SOFIE_NO_VNNI is for tests of the other way.
inline bool multiplies_bytes()
{
#if defined(SOFIE_TILE_ASSEMBLER) && !defined(SOFIE_NO_VNNI)
   unsigned a = 7, b, c = 0, d;
   asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
   if (SOFIE_SIMD_BYTES == 64)
      return c >> 11 & 1;
   const bool has_more = a > 0;
   a = 7;
   c = 1;
   asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
   return has_more && (a >> 4 & 1);
#else
   return false;
#endif
}

/// B[k, N] less its zero points, of which there are none, one, or one for each column: panels of columns, and in each
/// of them the steps, with 32 bits for each column.
template <Size N>
class IntegerWeights {
   static constexpr Size padded = (N + integer_columns - 1) / integer_columns * integer_columns;
   Buffer<std::int32_t> panels_, sums_, less_;
   Size steps_ = 0;
   bool bytes_ = false, has_zeros_ = false;

   template <class B>
   void pack(const B *b, const B *zeros, Size per_column, Size k)
   {
      static const bool has_vnni = multiplies_bytes();
      bytes_ = has_vnni;
      const int parts = bytes_ ? 4 : 2, bits = 32 / parts, shift = std::is_signed_v<B> ? 0 : 128;
      const std::uint32_t mask = (std::uint32_t{1} << bits) - 1;
      steps_ = (k + parts - 1) / parts;
      panels_ = Buffer<std::int32_t>(padded * steps_);
      sums_ = Buffer<std::int32_t>(padded);
      less_ = Buffer<std::int32_t>(padded);
      for (Size column = 0; column < N; ++column) {
         const int zero = zeros ? zeros[column * per_column] : 0;
         const Size panel = column / integer_columns * integer_columns;
         const Size packs = (N - panel + lanes<std::int32_t> - 1) / lanes<std::int32_t>;
         const Size width = packs < integer_packs ? packs * lanes<std::int32_t> : integer_columns;
         std::int32_t *to = panels_.data() + panel * steps_ + column - panel;
         Size sum = 0;
         for (Size i = 0; i < k; to += width) {
            std::uint32_t step = 0;
            for (int part = 0; part < parts && i < k; ++part, ++i) {
               const int number = b[i * N + column];
               step |= (static_cast<std::uint32_t>(number - (bytes_ ? shift : zero)) & mask) << part * bits;
               sum += number - zero;
            }
            *to = static_cast<std::int32_t>(step);
         }
         if (bytes_) {
            sums_.data()[column] = static_cast<std::int32_t>(sum);
            less_.data()[column] = shift - zero;
            has_zeros_ = has_zeros_ || shift != zero;
         }
      }
   }

public:
   template <class B>
   explicit IntegerWeights(B b)
   {
      pack(b.data(), static_cast<decltype(b.data())>(nullptr), 0, b.template extent<0>());
   }
   template <class B, class Zero>
   IntegerWeights(B b, Zero zero)
   {
      pack(b.data(), zero.data(), zero.size() == 1 ? 0 : 1, b.template extent<0>());
   }
   SOFIE_INLINE const std::int32_t *panel(Size column) const { return panels_.data() + column * steps_; }
   /// What VNNI takes from products with zero points of rows, and with sums of rows, for each column.
   SOFIE_INLINE const std::int32_t *sums(Size column) const { return sums_.data() + column; }
   SOFIE_INLINE const std::int32_t *less(Size column) const { return has_zeros_ ? less_.data() + column : nullptr; }
   SOFIE_INLINE Size steps() const { return steps_; }
   SOFIE_INLINE bool bytes() const { return bytes_; }
};

/// Rows of steps, `stride` bytes apart, and the sum of each of them if somebody asks.
struct IntegerRows {
   const void *data;
   Size stride;
   std::int32_t sums[integer_rows];
};

#ifdef SOFIE_TILE_ASSEMBLER
/// Bytes of a row without a sign, in whole packs.
template <class A>
SOFIE_KERNEL void integer_bytes(char *to, const A *a, Size k)
{
   constexpr int n = SOFIE_SIMD_BYTES, sign = std::is_signed_v<A> ? 128 : 0;
   using Bytes = PackN<std::uint8_t, n>;
   for (Size i = 0; i < k; i += n)
      store(reinterpret_cast<std::uint8_t *>(to) + i,
            bits<Bytes>(load_some<n>(a + i, k - i < n ? k - i : n)) ^ splat<Bytes>(sign));
}

/// The sum of a multiple of 4 bytes. A load of more of them than one store has written would wait.
SOFIE_KERNEL inline std::int32_t sum_of_bytes(const char *a, Size k)
{
   std::int32_t sum;
   // clang-format off
   asm volatile(
      SOFIE_DENSE_ZERO(0) SOFIE_DENSE_ZERO(1)
      "1:\n\t"
      "sub $16, %[k]\n\t"
      "jl 2f\n\t"
      "vpsadbw (%[a]), %%xmm1, %%xmm2\n\t"
      "vpaddd %%xmm2, %%xmm0, %%xmm0\n\t"
      "add $16, %[a]\n\t"
      "jmp 1b\n"
      "2:\n\t"
      "add $12, %[k]\n\t"
      "jl 3f\n\t"
      "vmovd (%[a]), %%xmm2\n\t"
      "vpsadbw %%xmm1, %%xmm2, %%xmm2\n\t"
      "vpaddd %%xmm2, %%xmm0, %%xmm0\n\t"
      "add $4, %[a]\n\t"
      "sub $16, %[k]\n\t"
      "jmp 2b\n"
      "3:\n\t"
      "vpshufd $0x4e, %%xmm0, %%xmm1\n\t"
      "vpaddd %%xmm1, %%xmm0, %%xmm0\n\t"
      "vmovd %%xmm0, %[sum]\n\t"
      : [a] "+&r"(a), [k] "+&r"(k), [sum] "=&r"(sum)
      :
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
   return sum;
}
#endif

/// Pairs of a row less their zero point, in whole packs; an odd last one has a partner that meets a weight of 0.
template <class A>
SOFIE_KERNEL void integer_pairs(char *to, const A *a, Size k, A zero)
{
   constexpr int n = 2 * lanes<std::int32_t>;
   using Pairs = PackN<std::int16_t, n>;
   const Pairs less = splat<Pairs>(static_cast<std::int16_t>(zero));
   for (Size i = 0; i < k; i += n, to += sizeof(Pairs)) {
      const Pairs pairs = __builtin_convertvector(load_some<n>(a + i, k - i < n ? k - i : n), Pairs) - less;
      __builtin_memcpy(to, &pairs, sizeof(pairs));
   }
}

/// How many bytes of `scratch` a row takes.
SOFIE_INLINE Size integer_row(Size k)
{
   return (k + SOFIE_SIMD_BYTES - 1) / SOFIE_SIMD_BYTES * SOFIE_SIMD_BYTES * 2;
}

/// Sums of a panel: steps of rows times those of weights, from `start` * `times` on, and for each row its sum times
/// `less`, if there is one. Where there is a factor, for each column or for all, comes sum * factor + bias in float32,
/// or `least` if that is more.
struct IntegerTile {
   const void *a;
   Size a_stride;
   const std::int32_t *row_sums;
   Size rows; // 1, 4 or 8.
   const std::int32_t *w;
   Size steps;
   const std::int32_t *start, *less;
   const float *factor, *bias;
   std::int32_t times, each, bytes;
   float least;
   void *y;
   Size y_stride;
   std::int32_t mask; // The columns of the last pack that y has.
};

#ifdef SOFIE_TILE_ASSEMBLER
// clang-format off
#ifdef SOFIE_AVX512_ASSEMBLER
#define SOFIE_INTEGER_VNNI "vpdpbusd "
#define SOFIE_INTEGER_SPARE "%%zmm31"
#define SOFIE_INTEGER_THIRD SOFIE_DENSE_W2
#define SOFIE_INTEGER_PAIR_LOADS SOFIE_DENSE_LOAD
#else
#define SOFIE_INTEGER_VNNI "%{vex%} vpdpbusd "
// Pairs need a register for their products, so that a third pack of weights has none.
#define SOFIE_INTEGER_SPARE "%%ymm14"
#define SOFIE_INTEGER_THIRD "2*" SOFIE_PACK_BYTES "(%[w])"
#define SOFIE_INTEGER_PAIR_LOADS \
   "vmovups (%[w]), " SOFIE_DENSE_W0 "\n\t" SOFIE_DENSE_IF_2("vmovups " SOFIE_PACK_BYTES "(%[w]), " SOFIE_DENSE_W1 "\n\t")
#endif
#define SOFIE_INTEGER_DOT(w, x, a) SOFIE_INTEGER_VNNI w ", " x ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_INTEGER_PAIR(w, x, a)                                                                           \
   "vpmaddwd " w ", " x ", " SOFIE_INTEGER_SPARE "\n\t"                                                        \
   "vpaddd " SOFIE_INTEGER_SPARE ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_INTEGER_TIMES(w, x, a) "vpmulld " w ", " x ", " SOFIE_PACK(a) "\n\t"
// A row: `each` of its packs with what is at x.
#define SOFIE_INTEGER_ROW(each, third, x, number, a, b, c)                                                    \
   "vpbroadcastd " x ", " SOFIE_DENSE_X(number) "\n\t"                                                         \
   each(SOFIE_DENSE_W0, SOFIE_DENSE_X(number), a)                                                              \
   SOFIE_DENSE_IF_2(each(SOFIE_DENSE_W1, SOFIE_DENSE_X(number), b))                                            \
   SOFIE_DENSE_IF_3(each(third, SOFIE_DENSE_X(number), c))
// One row, 4 or 8 of them, which are reached from x0, x3 and x6, `stride` bytes apart.
#define SOFIE_INTEGER_ROWS(each, third)                                                                       \
   SOFIE_INTEGER_ROW(each, third, "(%[x0])", 27, 0, 1, 2)                                                      \
   "cmp $4, %[rows]\n\t"                                                                                       \
   "jl 9f\n\t"                                                                                                 \
   SOFIE_INTEGER_ROW(each, third, "(%[x0],%[stride])", 28, 3, 4, 5)                                            \
   SOFIE_INTEGER_ROW(each, third, "(%[x0],%[stride],2)", 29, 6, 7, 8)                                          \
   SOFIE_INTEGER_ROW(each, third, "(%[x3])", 30, 9, 10, 11)                                                    \
   SOFIE_DENSE_LOWER(                                                                                          \
      "je 9f\n\t"                                                                                              \
      SOFIE_INTEGER_ROW(each, third, "(%[x3],%[stride])", 27, 12, 13, 14)                                      \
      SOFIE_INTEGER_ROW(each, third, "(%[x3],%[stride],2)", 28, 15, 16, 17)                                    \
      SOFIE_INTEGER_ROW(each, third, "(%[x6])", 29, 18, 19, 20)                                                \
      SOFIE_INTEGER_ROW(each, third, "(%[x6],%[stride])", 30, 21, 22, 23))                                     \
   "9:\n\t"
#define SOFIE_INTEGER_REACH                                                                                   \
   "lea (%[x0],%[stride],2), %[x3]\n\t"                                                                        \
   "add %[stride], %[x3]\n\t"                                                                                  \
   "lea (%[x3],%[stride],2), %[x6]\n\t"                                                                        \
   "add %[stride], %[x6]\n\t"
#define SOFIE_INTEGER_STEPS(label, loads, each, third)                                                        \
   ".p2align 5\n"                                                                                              \
   label ":\n\t"                                                                                               \
   loads                                                                                                       \
   SOFIE_INTEGER_ROWS(each, third)                                                                             \
   "add $4, %[x0]\n\t"                                                                                         \
   "add $4, %[x3]\n\t"                                                                                         \
   SOFIE_DENSE_LOWER("add $4, %[x6]\n\t")                                                                      \
   "add %[next], %[w]\n\t"                                                                                     \
   "dec %[k]\n\t"                                                                                              \
   "jnz " label "b\n\t"
// `row` for the packs of each row.
#define SOFIE_INTEGER_BY_ROWS(row)                                                                            \
   row(0, 1, 2)                                                                                                \
   "cmp $4, %[rows]\n\t"                                                                                       \
   "jl 8f\n\t"                                                                                                 \
   row(3, 4, 5) row(6, 7, 8) row(9, 10, 11)                                                                    \
   SOFIE_DENSE_LOWER(                                                                                          \
      "cmp $4, %[rows]\n\t"                                                                                    \
      "je 8f\n\t"                                                                                              \
      row(12, 13, 14) row(15, 16, 17) row(18, 19, 20) row(21, 22, 23))                                         \
   "8:\n\t"
#define SOFIE_INTEGER_OP(op, with, a) op " " with ", " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t"
#define SOFIE_INTEGER_START(a, b, c)                                                                          \
   SOFIE_INTEGER_OP("vpaddd", SOFIE_DENSE_W0, a)                                                               \
   SOFIE_DENSE_IF_2(SOFIE_INTEGER_OP("vpaddd", SOFIE_DENSE_W1, b))                                             \
   SOFIE_DENSE_IF_3(SOFIE_INTEGER_OP("vpaddd", SOFIE_DENSE_W2, c))
#define SOFIE_INTEGER_SCALE(w, place, a)                                                                      \
   "vcvtdq2ps " SOFIE_PACK(a) ", " SOFIE_PACK(a) "\n\t" SOFIE_INTEGER_OP("vmulps", w, a)                       \
   SOFIE_DENSE_PLUS(place, a) SOFIE_DENSE_RELU(a)
#define SOFIE_INTEGER_SCALED(a, b, c)                                                                         \
   SOFIE_INTEGER_SCALE(SOFIE_DENSE_W0, "", a)                                                                  \
   SOFIE_DENSE_IF_2(SOFIE_INTEGER_SCALE(SOFIE_DENSE_W1, SOFIE_PACK_BYTES, b))                                  \
   SOFIE_DENSE_IF_3(SOFIE_INTEGER_SCALE(SOFIE_DENSE_W2, "2*" SOFIE_PACK_BYTES, c))
#define SOFIE_INTEGER_RESULT(a, b, c) SOFIE_DENSE_RESULT(SOFIE_DENSE_MOVE, a, b, c)
#define SOFIE_INTEGER_SOME(a, b, c) SOFIE_DENSE_RESULT(SOFIE_DENSE_MOVE_SOME, a, b, c)
// clang-format on

/// What `of` says, for `Packs` packs of columns.
template <int Packs>
SOFIE_KERNEL void integer_tile(const IntegerTile &of)
{
   const void *x0, *x3, *x6, *w;
   Size k, stride;
   // clang-format off
   asm volatile(
      SOFIE_DENSE_EACH(SOFIE_DENSE_ZERO)
      "mov %c[of_less](%[of]), %[w]\n\t"
      "test %[w], %[w]\n\t"
      "jz 3f\n\t"
      "mov %c[of_row_sums](%[of]), %[x0]\n\t"
      "mov $4, %k[stride]\n\t"
      SOFIE_INTEGER_REACH
      SOFIE_DENSE_LOAD
      SOFIE_INTEGER_ROWS(SOFIE_INTEGER_TIMES, SOFIE_DENSE_W2)
      "3:\n\t"
      "mov %c[of_start](%[of]), %[w]\n\t"
      "vpbroadcastd %c[of_times](%[of]), " SOFIE_DENSE_X(27) "\n\t"
      "vpmulld (%[w]), " SOFIE_DENSE_X(27) ", " SOFIE_DENSE_W0 "\n\t"
      SOFIE_DENSE_IF_2("vpmulld " SOFIE_PACK_BYTES "(%[w]), " SOFIE_DENSE_X(27) ", " SOFIE_DENSE_W1 "\n\t")
      SOFIE_DENSE_IF_3("vpmulld 2*" SOFIE_PACK_BYTES "(%[w]), " SOFIE_DENSE_X(27) ", " SOFIE_DENSE_W2 "\n\t")
      SOFIE_INTEGER_BY_ROWS(SOFIE_INTEGER_START)
      "mov %c[of_a](%[of]), %[x0]\n\t"
      "mov %c[of_a_stride](%[of]), %[stride]\n\t"
      SOFIE_INTEGER_REACH
      "mov %c[of_w](%[of]), %[w]\n\t"
      "mov %c[of_steps](%[of]), %[k]\n\t"
      "test %[k], %[k]\n\t"
      "jz 4f\n\t"
      "cmpl $0, %c[of_bytes](%[of])\n\t"
      "je 2f\n\t"
      SOFIE_INTEGER_STEPS("1", SOFIE_DENSE_LOAD, SOFIE_INTEGER_DOT, SOFIE_DENSE_W2)
      "jmp 4f\n\t"
      SOFIE_INTEGER_STEPS("2", SOFIE_INTEGER_PAIR_LOADS, SOFIE_INTEGER_PAIR, SOFIE_INTEGER_THIRD)
      "4:\n\t"
      "mov %c[of_factor](%[of]), %[w]\n\t"
      "test %[w], %[w]\n\t"
      "jz 6f\n\t"
      "vbroadcastss (%[w]), " SOFIE_DENSE_W0 "\n\t"
      "vmovaps " SOFIE_DENSE_W0 ", " SOFIE_DENSE_W1 "\n\t"
      "vmovaps " SOFIE_DENSE_W0 ", " SOFIE_DENSE_W2 "\n\t"
      "cmpl $0, %c[of_each](%[of])\n\t"
      "je 5f\n\t"
      SOFIE_DENSE_LOAD
      "5:\n\t"
      "vbroadcastss %c[of_least](%[of]), " SOFIE_DENSE_X(27) "\n\t"
      "mov %c[of_bias](%[of]), %[w]\n\t"
      SOFIE_INTEGER_BY_ROWS(SOFIE_INTEGER_SCALED)
      "6:\n\t"
      "mov %c[of_y](%[of]), %[x3]\n\t"
      "mov %c[of_y_stride](%[of]), %[x0]\n\t"
      SOFIE_DENSE_WHOLE_OR_SOME("%c[of_mask](%[of])", SOFIE_INTEGER_BY_ROWS(SOFIE_INTEGER_RESULT),
                                SOFIE_INTEGER_BY_ROWS(SOFIE_INTEGER_SOME))
      : [w] "=&r"(w), [x0] "=&r"(x0), [x3] "=&r"(x3), [x6] "=&r"(x6), [k] "=&r"(k), [stride] "=&r"(stride)
      : [of] "r"(&of), [rows] "r"(of.rows),
        SOFIE_MEMBERS(of, IntegerTile, a, a_stride, row_sums, w, steps, start, less, factor, bias, times, each,
           bytes, least, y, y_stride, mask),
        [packs] "i"(Packs), [next] "i"(Packs * SOFIE_SIMD_BYTES)
      : "memory", "cc", SOFIE_DENSE_REGISTERS);
   // clang-format on
}
#else
template <int Packs>
SOFIE_KERNEL void integer_tile(const IntegerTile &of)
{
   constexpr int n = lanes<std::int32_t>;
   using V = Pack<std::int32_t>;
   for (Size r = 0; r < of.rows; ++r)
      for (int c = 0; c < Packs; ++c) {
         const char *const a = static_cast<const char *>(of.a) + r * of.a_stride;
         V sum{};
         for (Size i = 0; i < of.steps; ++i) {
            const V pair = load<n>(of.w + (i * Packs + c) * n);
            std::int32_t step;
            __builtin_memcpy(&step, a + i * sizeof(step), sizeof(step));
            const V first = splat<V>(static_cast<std::int16_t>(step)), second = splat<V>(step >> 16);
            const V low = pair << 16 >> 16, high = pair >> 16;
            sum = plus(sum, plus(times(first, low), times(second, high)));
         }
         Pack<float> result = bits<Pack<float>>(sum);
         if (of.factor) {
            const Pack<float> factor = of.each ? load<n>(of.factor + c * n) : splat<Pack<float>>(*of.factor);
            result = convert<float>(sum) * factor + load<n>(of.bias + c * n);
            result = select(result < of.least, splat<Pack<float>>(of.least), result);
         }
         float *const y = reinterpret_cast<float *>(static_cast<char *>(of.y) + r * of.y_stride) + c * n;
         Size some = n;
         while (c == Packs - 1 && !(of.mask >> (some - 1) & 1))
            --some;
         store_some(y, result, some);
      }
}
#endif

/// What becomes of sums: a number for each column or for all, and for each column one more.
struct IntegerScale {
   const float *factor = nullptr;
   bool each = false;
   const float *bias = nullptr;
   bool relu = false;
};

/// The columns from `column` on of some rows, of which the last ones may be computed once more. Where there are `Some`
/// columns only, what belongs to them is copied.
template <int Packs, Size Some, Size N>
SOFIE_KERNEL void integer_panel(void *y, const IntegerRows &a, Size rows, std::int32_t zero, const IntegerWeights<N> &w,
                                Size column, const IntegerScale &scale)
{
   constexpr int n = lanes<std::int32_t>;
   constexpr Size width = Packs * n, bytes = static_cast<Size>(sizeof(std::int32_t));
   IntegerTile of{a.data,
                  a.stride,
                  a.sums,
                  1,
                  w.panel(column),
                  w.steps(),
                  w.sums(column),
                  w.less(column),
                  scale.factor,
                  scale.bias,
                  -zero,
                  scale.each,
                  w.bytes(),
                  scale.relu ? 0 : -__builtin_inff(),
                  nullptr,
                  N * bytes,
                  static_cast<std::int32_t>((std::int64_t{1} << (Some - (width - n))) - 1)};
   alignas(64) [[maybe_unused]] float numbers[2][Some < width ? width : 1];
   if (scale.factor) {
      of.factor += scale.each ? column : 0;
      of.bias += column;
      if constexpr (Some < width) {
         for (Size j = 0; j < width; j += n) {
            const Size left = Some - j < n ? Some - j : n;
            if (scale.each)
               store(numbers[0] + j, load_some<n>(of.factor + j, left));
            store(numbers[1] + j, load_some<n>(of.bias + j, left));
         }
         of.factor = scale.each ? numbers[0] : of.factor;
         of.bias = numbers[1];
      }
   }
   for (Size done = 0; done < rows; done += of.rows) {
      const Size left = rows - done;
      of.rows = SOFIE_SIMD_BYTES == 64 && rows >= 8 && left > 4 ? 8 : rows >= 4 && left > 1 ? 4 : 1;
      const Size row = left < of.rows ? rows - of.rows : done;
      of.a = static_cast<const char *>(a.data) + row * a.stride;
      of.row_sums = a.sums + row;
      of.y = static_cast<char *>(y) + (row * N + column) * bytes;
      integer_tile<Packs>(of);
   }
}

/// y[m, N] = sum_k (a[m, k] - zero) * (b[k, N] - its zero point), or what `scale` makes of it; `scratch` has place for
/// some rows.
template <Size N, class A>
SOFIE_KERNEL void integer_product(void *y, char *scratch, const A *a, A zero, const IntegerWeights<N> &w, Size m,
                                  Size k, const IntegerScale &scale)
{
   constexpr Size whole = N / integer_columns * integer_columns;
   constexpr int last = static_cast<int>((N - whole + lanes<std::int32_t> - 1) / lanes<std::int32_t>);
   // Whole steps of bytes are read where they are.
   const bool there = w.bytes() && !std::is_signed_v<A> && k % 4 == 0, summed = w.less(0) != nullptr;
   const std::int32_t less = zero + (std::is_signed_v<A> && w.bytes() ? 128 : 0);
   [[maybe_unused]] const Size steps = (k + 3) / 4;
   IntegerRows rows;
   rows.stride = there ? k : integer_row(k);
   for (Size first = 0; first < m; first += integer_rows) {
      const Size some = m - first < integer_rows ? m - first : integer_rows;
      const A *const from = a + first * k;
      rows.data = there ? static_cast<const void *>(from) : scratch;
      for (Size r = 0; r < some && (!there || summed); ++r) {
#ifdef SOFIE_TILE_ASSEMBLER
         if (w.bytes()) {
            if (!there)
               integer_bytes(scratch + r * rows.stride, from + r * k, k);
            // 128 is what stands behind the last byte with a sign.
            rows.sums[r] = sum_of_bytes(static_cast<const char *>(rows.data) + r * rows.stride, steps * 4) -
                           (std::is_signed_v<A> ? static_cast<std::int32_t>(128 * (steps * 4 - k)) : 0);
         } else
#endif
            integer_pairs(scratch + r * integer_row(k), from + r * k, k, zero);
      }
      char *const to = static_cast<char *>(y) + first * N * static_cast<Size>(sizeof(std::int32_t));
      for (Size column = 0; column < whole; column += integer_columns)
         integer_panel<integer_packs, integer_columns>(to, rows, some, less, w, column, scale);
      if constexpr (last > 0)
         integer_panel<last, N - whole>(to, rows, some, less, w, whole, scale);
   }
}

/// The same of views, in 32 bits; `zero` is one number, or is not there.
template <class Y, class Scratch, class A, Size N, class... Zero>
SOFIE_INLINE void integer_product(Y y, Scratch scratch, A a, const IntegerWeights<N> &w, const Sizes<2> &sizes,
                                  Zero... zero)
{
   using T = std::remove_const_t<typename A::Element>;
   T less{};
   if constexpr (sizeof...(Zero) > 0)
      less = static_cast<T>(std::get<0>(std::tie(zero...)).data()[0]);
   integer_product(static_cast<void *>(y.data()), reinterpret_cast<char *>(scratch.data()),
                   static_cast<const T *>(a.data()), less, w, sizes[0], sizes[1], IntegerScale{});
}

/// The same times the factors, of which there is one or one for each column, plus b, or max(0, that).
template <bool Relu, class Y, class Scratch, class A, Size N, class Zero, class Factor, class B>
SOFIE_INLINE void integer_dense(Y y, Scratch scratch, A a, const IntegerWeights<N> &w, const Sizes<2> &sizes, Zero zero,
                                Factor factor, B b)
{
   using T = std::remove_const_t<typename A::Element>;
   integer_product(static_cast<void *>(y.data()), reinterpret_cast<char *>(scratch.data()),
                   static_cast<const T *>(a.data()), static_cast<T>(zero.data()[0]), w, sizes[0], sizes[1],
                   IntegerScale{factor.data(), factor.size() > 1, b.data(), Relu});
}

} // namespace sofie

SOFIE_END

#endif
