/// \file
/// Owned<T, Rank>: a tensor with memory of its own, whose kernel decides how large it is.
#ifndef SOFIE_SESSION_OWNED_HXX
#define SOFIE_SESSION_OWNED_HXX

#include "sofie/session/weights.hxx"

SOFIE_BEGIN

namespace sofie {

/// A dense row-major tensor whose shape may be another one at every call. It grows when more is
/// needed and never shrinks; what it held is lost when its shape changes.
template <class T, int Rank>
class Owned {
   // Not a null pointer: memcpy accepts none, not even to copy nothing.
   Buffer<T> memory_ = Buffer<T>(0);
   Sizes<Rank> shape_{};

public:
   using Element = T;
   static constexpr int rank = Rank;

   /// The new shape; the elements are whatever they are.
   void resize(const Sizes<Rank> &shape)
   {
      Size size = 1;
      for (int i = 0; i < Rank; ++i)
         size *= shape[i];
      if (size > memory_.size())
         memory_ = Buffer<T>(size);
      shape_ = shape;
   }

   /// Room for `size` elements; the first `kept` stay. It doubles, so that growing often is cheap.
   void reserve(Size kept, Size size)
   {
      if (size <= memory_.size())
         return;
      Buffer<T> larger(2 * size);
      __builtin_memcpy(static_cast<void *>(larger.data()), memory_.data(), static_cast<std::size_t>(kept) * sizeof(T));
      memory_ = static_cast<Buffer<T> &&>(larger);
   }

   /// Another shape for the elements that are there, for which there must be room.
   void reshape(const Sizes<Rank> &shape) { shape_ = shape; }

   /// Exchanges the contents, without copying.
   void swap(Owned &other)
   {
      Buffer<T> memory = static_cast<Buffer<T> &&>(memory_);
      memory_ = static_cast<Buffer<T> &&>(other.memory_);
      other.memory_ = static_cast<Buffer<T> &&>(memory);
      const Sizes<Rank> shape = shape_;
      shape_ = other.shape_;
      other.shape_ = shape;
   }

   SOFIE_INLINE const Sizes<Rank> &shape() const { return shape_; }
   SOFIE_INLINE Size extent(int axis) const { return shape_[axis]; }
   SOFIE_INLINE T *data() { return memory_.data(); }
   SOFIE_INLINE const T *data() const { return memory_.data(); }

   /// The number of elements.
   Size size() const
   {
      Size size = 1;
      for (int i = 0; i < Rank; ++i)
         size *= shape_[i];
      return size;
   }
};

/// The memory and the extents of a result.
template <class T, int Rank>
const void *described(const Owned<T, Rank> &result, std::size_t *shape)
{
   for (int i = 0; i < Rank; ++i)
      shape[i] = static_cast<std::size_t>(result.extent(i));
   return result.data();
}

/// The memory of a tensor that gets this shape, or nothing where there is none.
template <class V, int Rank>
SOFIE_INLINE auto resized_data(V &&tensor, const Sizes<Rank> &shape)
{
   if constexpr (is_there<V>)
      tensor.resize(shape);
   return data_of(tensor);
}

} // namespace sofie

SOFIE_END

#endif
