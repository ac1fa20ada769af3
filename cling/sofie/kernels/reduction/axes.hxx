/// \file
/// Which axes of a tensor a reduction goes along.
#ifndef SOFIE_KERNELS_REDUCTION_AXES_HXX
#define SOFIE_KERNELS_REDUCTION_AXES_HXX

#include "sofie/simd.hxx"

SOFIE_BEGIN

namespace sofie {

/// Some axes of a tensor, and how far apart neighbours along each are.
struct WalkedAxes {
   static constexpr int most = 32;
   int count = 0;
   Size sizes[most];
   Size strides[most];

   SOFIE_INLINE Size positions() const
   {
      Size product = 1;
      for (int a = 0; a < count; ++a)
         product *= sizes[a];
      return product;
   }
};

/// A walk through all positions of some axes, the last one fastest.
class Odometer {
   const WalkedAxes &axes_;
   Size index_[WalkedAxes::most];

public:
   Size offset = 0;

   SOFIE_INLINE explicit Odometer(const WalkedAxes &axes) : axes_(axes)
   {
      for (int a = 0; a < axes.count; ++a)
         index_[a] = 0;
   }
   SOFIE_INLINE void next()
   {
      for (int a = axes_.count - 1; a >= 0; --a) {
         offset += axes_.strides[a];
         if (++index_[a] < axes_.sizes[a])
            return;
         offset -= axes_.sizes[a] * axes_.strides[a];
         index_[a] = 0;
      }
   }
};

/// What a reduction does with the axes of its input.
struct Reduction {
   WalkedAxes kept;    ///< but for the inner one
   WalkedAxes reduced; ///< but for the one before the inner one, which is `run`
   Size run = 1;
   Size inner = 1;
   Size inputs = 1;
   Size count = 1;       ///< how many elements make one result
   bool is_fixed = true; ///< the inner size is the same for all batches

   /// Bit a of `mask`: axis a is reduced; of `dynamic`: its size is known only at run time. An axis
   /// of size 1 vanishes only if it always has that size.
   SOFIE_INLINE Reduction(const Size *shape, int rank, Size mask, Size dynamic)
   {
      WalkedAxes groups;
      bool is_reduced[WalkedAxes::most];
      if (rank > WalkedAxes::most)
         throw std::invalid_argument("a reduction of a tensor with more than 32 axes");
      for (int a = 0; a < rank; ++a) {
         const bool reduce = (mask >> a) & 1;
         inputs *= shape[a];
         if (reduce)
            count *= shape[a];
         if (shape[a] == 1 && !((dynamic >> a) & 1))
            continue;
         const int last = groups.count - 1;
         if (last >= 0 && is_reduced[last] == reduce) {
            groups.sizes[last] *= shape[a];
         } else {
            groups.sizes[groups.count] = shape[a];
            is_reduced[groups.count++] = reduce;
         }
      }
      for (int a = rank - 1; a >= 0 && !((mask >> a) & 1); --a)
         if ((dynamic >> a) & 1)
            is_fixed = false;
      if (groups.count && !is_reduced[groups.count - 1])
         inner = groups.sizes[--groups.count];
      if (groups.count && is_reduced[groups.count - 1])
         run = groups.sizes[--groups.count];
      Size stride = run * inner;
      for (int g = groups.count - 1; g >= 0; --g) {
         groups.strides[g] = stride;
         stride *= groups.sizes[g];
      }
      for (int g = 0; g < groups.count; ++g) {
         WalkedAxes &axes = is_reduced[g] ? reduced : kept;
         axes.sizes[axes.count] = groups.sizes[g];
         axes.strides[axes.count++] = groups.strides[g];
      }
   }
};

} // namespace sofie

SOFIE_END

#endif
