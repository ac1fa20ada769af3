// Products of bytes beside sums in plain C++: each depth up to 300 with several numbers of rows and columns, zero
// points, and numbers that are the least and the largest in all places. Prints what is wrong, and "right" at the end.
#include "sofie/kernels/products/integers.hxx"

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

enum class Fill { random, least, largest, both };

struct Numbers {
   std::uint32_t state = 1;
   std::uint32_t next(std::uint32_t below)
   {
      state = state * 1664525u + 1013904223u;
      return (state >> 8) % below;
   }
   template <class T>
   std::vector<T> some(std::size_t count, Fill fill)
   {
      const int least = std::is_signed_v<T> ? -128 : 0;
      std::vector<T> found(count);
      for (T &one : found) {
         const int random = static_cast<int>(next(256)), side = random % 2 ? 255 : 0;
         one = static_cast<T>(least + (fill == Fill::random    ? random
                                       : fill == Fill::least   ? 0
                                       : fill == Fill::largest ? 255
                                                               : side));
      }
      return found;
   }
};

template <class T, class Extent>
struct Matrix {
   using Element = T;
   const T *numbers;
   Extent sizes[2];
   const T *data() const { return numbers; }
   template <int Axis>
   sofie::Size extent() const
   {
      return sizes[Axis];
   }
   sofie::Size size() const { return sizes[0] * sizes[1]; }
};

void require(bool right, const char *what, sofie::Size rows, sofie::Size depth, sofie::Size columns)
{
   if (!right) {
      std::printf("%s: %d rows, %d steps, %d columns\n", what, static_cast<int>(rows), static_cast<int>(depth),
                  static_cast<int>(columns));
      std::exit(1);
   }
}

template <class A, class B, sofie::Size N>
void check(Numbers &numbers, sofie::Size rows, sofie::Size depth, Fill fill, int zeros)
{
   using sofie::Size;
   const auto a = numbers.some<A>(static_cast<std::size_t>(rows * depth), fill);
   const auto b = numbers.some<B>(static_cast<std::size_t>(depth * N), fill);
   const auto q = numbers.some<B>(static_cast<std::size_t>(zeros == 2 ? N : 1), zeros ? Fill::both : Fill::random);
   const A p = zeros ? numbers.some<A>(1, zeros == 1 ? Fill::both : Fill::random)[0] : A{};
   const Matrix<B, Size> weights{b.data(), {depth, N}}, zero{q.data(), {1, static_cast<Size>(q.size())}};
   const sofie::IntegerWeights<N> packed =
      zeros ? sofie::IntegerWeights<N>(weights, zero) : sofie::IntegerWeights<N>(weights);
   std::vector<char> scratch(static_cast<std::size_t>(sofie::integer_rows * sofie::integer_row(depth)));
   const std::int32_t mark = 0x5a5a5a5a;
   const auto size = static_cast<std::size_t>(rows * N);
   std::vector<std::int32_t> y(size + 64, mark), alone(static_cast<std::size_t>(N));
   std::vector<float> floats(size), factors(static_cast<std::size_t>(N)), offsets(factors);
   for (std::size_t j = 0; j < factors.size(); ++j) {
      factors[j] = 0.001f * static_cast<float>(1 + numbers.next(1000));
      offsets[j] = static_cast<float>(numbers.next(1000)) - 500;
   }
   const bool each = zeros == 2, relu = zeros > 0;
   sofie::integer_product<N>(y.data(), scratch.data(), a.data(), p, packed, rows, depth, sofie::IntegerScale{});
   sofie::integer_product<N>(floats.data(), scratch.data(), a.data(), p, packed, rows, depth,
                             sofie::IntegerScale{factors.data(), each, offsets.data(), relu});
   for (Size r = 0; r < rows; ++r) {
      for (Size j = 0; j < N; ++j) {
         std::int32_t sum = 0;
         for (Size i = 0; i < depth; ++i)
            sum +=
               (a[static_cast<std::size_t>(r * depth + i)] - p) *
               (b[static_cast<std::size_t>(i * N + j)] - (zeros ? q[zeros == 2 ? static_cast<std::size_t>(j) : 0] : 0));
         const auto at = static_cast<std::size_t>(r * N + j);
         require(y[at] == sum, "a sum is wrong", rows, depth, N);
         const float scaled = static_cast<float>(sum) * factors[each ? static_cast<std::size_t>(j) : 0];
         const float result = scaled + offsets[static_cast<std::size_t>(j)];
         require(floats[at] == (relu && result < 0 ? 0 : result), "a result is wrong", rows, depth, N);
      }
      sofie::integer_product<N>(alone.data(), scratch.data(), a.data() + r * depth, p, packed, 1, depth,
                                sofie::IntegerScale{});
      for (Size j = 0; j < N; ++j)
         require(alone[static_cast<std::size_t>(j)] == y[static_cast<std::size_t>(r * N + j)], "a row is another alone",
                 rows, depth, N);
   }
   for (std::size_t i = size; i < y.size(); ++i)
      require(y[i] == mark, "it wrote behind its results", rows, depth, N);
}

template <class A, class B>
void check_depth(Numbers &numbers, sofie::Size depth)
{
   constexpr sofie::Size all[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 17, 63, 64, 65, 70};
   const auto rows = [&] { return all[numbers.next(depth % 7 ? 10 : 14)]; };
   const auto fill = [&] { return static_cast<Fill>(numbers.next(4)); };
   const auto zeros = [&] { return static_cast<int>(numbers.next(3)); };
   check<A, B, 1>(numbers, rows(), depth, fill(), zeros());
   check<A, B, 5>(numbers, rows(), depth, fill(), zeros());
   check<A, B, 16>(numbers, rows(), depth, fill(), zeros());
   check<A, B, 33>(numbers, rows(), depth, fill(), zeros());
   check<A, B, 48>(numbers, rows(), depth, fill(), zeros());
   check<A, B, 67>(numbers, rows(), depth, fill(), zeros());
}

} // namespace

int main()
{
   Numbers numbers;
   for (sofie::Size depth = 0; depth <= 300; ++depth) {
      check_depth<std::uint8_t, std::int8_t>(numbers, depth);
      check_depth<std::uint8_t, std::uint8_t>(numbers, depth);
      check_depth<std::int8_t, std::int8_t>(numbers, depth);
      check_depth<std::int8_t, std::uint8_t>(numbers, depth);
   }
   std::printf("right, %s\n", sofie::multiplies_bytes() ? "by VNNI" : "in pairs");
}
