/// \file
/// The best elements along an axis and where they are: a work-group for each row.
#ifndef SOFIE_DEVICE_SELECT_HXX
#define SOFIE_DEVICE_SELECT_HXX

#include "sofie/device/reduce.hxx"

namespace sofie {
namespace device {

/// Which of two elements comes first.
template <bool Largest, bool NanFirst, bool LastFirst>
struct Order {
   template <class T>
   SOFIE_DEVICE static bool before(T a, Index i, T b, Index j)
   {
      const bool a_is_nan = a != a, b_is_nan = b != b;
      if (a_is_nan != b_is_nan)
         return a_is_nan == NanFirst;
      if (!a_is_nan && a != b)
         return Largest ? a > b : a < b;
      return LastFirst ? i > j : i < j;
   }
};

/// The first k of [outer, size, inner] along the middle axis, by an order: values, positions, or both.
template <class T, class Order>
struct Select {
   Index size, inner, k;

   static constexpr int items = 64;
   /// An element, or none, at -1.
   struct One {
      T value;
      Index place;
   };
   struct Local {
      One partial[static_cast<std::size_t>(items)];
      One chosen;
   };

   template <class Group>
   SOFIE_DEVICE void operator()(Group &group, T *values, std::int64_t *places, const T *x) const
   {
      run(group, x, [&](Index i, One one) {
         values[i] = one.value;
         places[i] = one.place;
      });
   }
   template <class Group>
   SOFIE_DEVICE void operator()(Group &group, T *values, const T *x) const
   {
      run(group, x, [&](Index i, One one) { values[i] = one.value; });
   }

protected:
   template <class Group, class Store>
   SOFIE_DEVICE void run(Group &group, const T *x, const Store &store) const
   {
      auto &local = group.local();
      const Index outer = group.index() / inner, column = group.index() % inner;
      x += outer * size * inner + column;
      group.each([&](int item) {
         if (item == 0)
            local.chosen = One{T(0), -1};
      });
      for (Index round = 0; round < k; ++round) {
         fold_group<items>(
            group, local.partial, &local.chosen, [&](int item) { return best(x, item, local.chosen); },
            [](One a, One b) { return first(a, b); });
         group.each([&](int item) {
            if (item == 0)
               store((outer * k + round) * inner + column, local.chosen);
         });
      }
   }

private:
   SOFIE_DEVICE static One first(One a, One b)
   {
      if (a.place < 0 || b.place < 0)
         return a.place < 0 ? b : a;
      return Order::before(b.value, b.place, a.value, a.place) ? b : a;
   }
   /// The first one of this work-item's elements that comes behind the one chosen before.
   SOFIE_DEVICE One best(const T *x, int item, One before) const
   {
      One found{T(0), -1};
      for (Index i = item; i < size; i += items) {
         const One one{x[i * inner], i};
         if (before.place < 0 || Order::before(before.value, before.place, one.value, one.place))
            found = first(found, one);
      }
      return found;
   }
};

/// The position of the first one.
template <class T, class Order>
struct SelectPlace : Select<T, Order> {
   SOFIE_DEVICE SelectPlace(Index size, Index inner) : Select<T, Order>{size, inner, 1} {}

   template <class Group>
   SOFIE_DEVICE void operator()(Group &group, std::int64_t *places, const T *x) const
   {
      this->run(group, x, [&](Index i, typename Select<T, Order>::One one) { places[i] = one.place; });
   }
};

} // namespace device
} // namespace sofie

#endif
