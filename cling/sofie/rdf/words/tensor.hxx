/// \file
/// TMVA::Experimental::RTensor, as much of it as graph networks need: contiguous, in row-major order.
#ifndef SOFIE_RDF_WORDS_TENSOR_HXX
#define SOFIE_RDF_WORDS_TENSOR_HXX

#include "sofie/target.hxx"

namespace TMVA {
namespace Experimental {

enum class MemoryLayout : unsigned char { RowMajor = 1, ColumnMajor = 2 };

/// Elements and a shape. A copy shares the elements; `Copy` does not.
template <class V, class C = std::vector<V>>
class RTensor {
public:
   using Value_t = V;
   using Shape_t = std::vector<std::size_t>;

private:
   Shape_t shape_;
   Shape_t strides_;
   std::size_t size_ = 0;
   std::shared_ptr<C> owned_;
   V *data_ = nullptr;

   void arrange(const Shape_t &shape, MemoryLayout layout)
   {
      if (layout != MemoryLayout::RowMajor)
         throw std::invalid_argument("RTensor: only row-major tensors are supported here");
      shape_ = shape;
      strides_.assign(shape.size(), 1);
      size_ = 1;
      for (std::size_t axis = shape.size(); axis > 0; --axis) {
         strides_[axis - 1] = size_;
         size_ *= shape[axis - 1];
      }
   }

public:
   RTensor() = default;
   /// Elements of one's own, zero at first.
   RTensor(const Shape_t &shape, MemoryLayout layout = MemoryLayout::RowMajor)
   {
      arrange(shape, layout);
      owned_ = std::make_shared<C>(size_);
      data_ = owned_->data();
   }
   /// The elements of others, for as long as they are there.
   RTensor(V *data, const Shape_t &shape, MemoryLayout layout = MemoryLayout::RowMajor) : data_(data)
   {
      arrange(shape, layout);
   }
   RTensor(std::shared_ptr<C> container, const Shape_t &shape, MemoryLayout layout = MemoryLayout::RowMajor)
      : owned_(std::move(container)), data_(owned_->data())
   {
      arrange(shape, layout);
      if (size_ != owned_->size())
         throw std::invalid_argument("RTensor: the container has another number of elements than the shape");
   }

   const Shape_t &GetShape() const { return shape_; }
   const Shape_t &GetStrides() const { return strides_; }
   std::size_t GetSize() const { return size_; }
   V *GetData() { return data_; }
   const V *GetData() const { return data_; }
   std::shared_ptr<C> GetContainer() { return owned_; }
   MemoryLayout GetMemoryLayout() const { return MemoryLayout::RowMajor; }
   bool IsView() const { return !owned_; }
   bool IsOwner() const { return !IsView(); }

   V *begin() { return data_; }
   V *end() { return data_ + size_; }
   const V *begin() const { return data_; }
   const V *end() const { return data_ + size_; }

   /// The element at these indices, one for each axis, which are checked.
   template <class... Indices>
   V &operator()(Indices... indices)
   {
      return data_[offset({static_cast<std::size_t>(indices)...})];
   }
   template <class... Indices>
   const V &operator()(Indices... indices) const
   {
      return data_[offset({static_cast<std::size_t>(indices)...})];
   }

   /// The same elements in another shape.
   RTensor Reshape(const Shape_t &shape) const
   {
      RTensor reshaped = *this;
      reshaped.arrange(shape, MemoryLayout::RowMajor);
      if (reshaped.size_ != size_)
         throw std::invalid_argument("RTensor: the new shape has another number of elements");
      return reshaped;
   }
   RTensor Copy(MemoryLayout layout = MemoryLayout::RowMajor) const
   {
      RTensor copy(shape_, layout);
      for (std::size_t i = 0; i < size_; ++i)
         copy.data_[i] = data_[i];
      return copy;
   }

private:
   std::size_t offset(const Shape_t &indices) const
   {
      std::size_t found = 0;
      if (indices.size() != shape_.size())
         throw std::out_of_range("RTensor: one index for each axis is needed");
      for (std::size_t axis = 0; axis < indices.size(); ++axis) {
         if (indices[axis] >= shape_[axis])
            throw std::out_of_range("RTensor: an index is too large");
         found += indices[axis] * strides_[axis];
      }
      return found;
   }
};

} // namespace Experimental
} // namespace TMVA

#endif
