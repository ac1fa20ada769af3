/// \file
/// Elements written at positions whose coordinates are tensors of their own.
#ifndef SOFIE_KERNELS_INDEXING_SCATTER_HXX
#define SOFIE_KERNELS_INDEXING_SCATTER_HXX

#include "sofie/kernels/indexing.hxx"

SOFIE_BEGIN

namespace sofie {

/// The indices along one axis of what is written to.
struct ScatterColumn {
   const std::int64_t *at;
   Size size;        ///< of the axis
   Size stride;      ///< of the axis, in elements
   const Size *step; ///< between neighbours along each axis of the updates

   /// The place of an index that exists.
   SOFIE_INLINE Size place(Size i) const
   {
      const Size index = static_cast<Size>(at[i]);
      return (index < 0 ? index + size : index) * stride;
   }
};

/// Writes `count` updates; `number` columns have another index for each, the others are in `to`.
template <class T>
SOFIE_INLINE void scatter_run(T *to, const T *updates, Size count, const ScatterColumn *moving, int number)
{
   for (Size i = 0; i < count; ++i) {
      Size place = 0;
      for (int c = 0; c < number; ++c)
         place += moving[c].place(i);
      to[place] = updates[i];
   }
}

/// Throws for an index that does not exist; each is looked at once.
SOFIE_KERNEL inline void check_column(const ScatterColumn &column, const Size *shape, int rank)
{
   Size count = 1;
   for (int a = 0; a < rank; ++a)
      count *= column.step[a] || shape[a] == 0 ? shape[a] : 1;
   check_indices(column.at, count, column.size);
}

/// `shape` is that of the updates.
template <class T, int Axes>
SOFIE_KERNEL void scatter_columns(T *to, const T *updates, ScatterColumn (&columns)[Axes], const Size *shape, int rank)
{
   const Size count = shape[rank - 1];
   Size runs = 1;
   for (int a = 0; a < rank - 1; ++a)
      runs *= shape[a];
   for (const ScatterColumn &column : columns)
      check_column(column, shape, rank);
   if (count == 0)
      return;
   for (Size run = 0; run < runs; ++run, updates += count) {
      ScatterColumn moving[Axes];
      int number = 0;
      Size fixed = 0;
      for (ScatterColumn column : columns) {
         Size rest = run;
         for (int a = rank - 2; a >= 0; rest /= shape[a--])
            column.at += rest % shape[a] * column.step[a];
         if (column.step[rank - 1])
            moving[number++] = column;
         else
            fixed += column.place(0);
      }
      scatter_run(to + fixed, updates, count, moving, number);
   }
}

/// y is x with updates[p] at [indices_0[p], indices_1[p], ...]; `steps` are those of all indices.
template <int Axes, int Rank, int Steps, class Y, class X, class U, class... I>
SOFIE_INLINE void scatter_at(const Sizes<Axes> &extents, const Sizes<Rank> &shape, const Sizes<Steps> &steps,
                             const Y &y, const X &x, const U &updates, const I &...indices)
{
   static_assert(Axes == sizeof...(I) && Steps == Axes * Rank, "one tensor of indices for each axis");
   ScatterColumn columns[] = {{indices.data(), 0, 1, nullptr}...};
   Size stride = 1;
   for (int a = Axes - 1; a >= 0; stride *= extents[a--]) {
      columns[a].size = extents[a];
      columns[a].stride = stride;
      columns[a].step = steps.values + a * Rank;
   }
   copy_bytes(written(y), read(x), stride * bytes_of<X>);
   scatter_columns(y.data(), updates.data(), columns, shape.values, Rank);
}

} // namespace sofie

SOFIE_END

#endif
