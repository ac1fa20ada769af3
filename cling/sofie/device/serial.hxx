/// \file
/// The serial adapter: work-groups one after the other, in plain C++17, for tests of kernels.
///
/// A barrier is where all work-items have done what is before it: `each` is a loop over the work-items. They run in an
/// order that the seed decides, and the local memory is full of NaN at first, so that a kernel which needs a barrier
/// that it does not have gives other numbers.
#ifndef SOFIE_DEVICE_SERIAL_HXX
#define SOFIE_DEVICE_SERIAL_HXX

#include <cstring>
#include <memory>

#include "sofie/device/session.hxx"

namespace sofie {
namespace device {

template <class Kernel>
class SerialGroup {
   Index index_;
   unsigned seed_;
   typename Kernel::Local &local_;

public:
   using MathOfIt = Math;

   /// A variable of each work-item.
   template <class T>
   class Private {
      T values_[static_cast<std::size_t>(Kernel::items)];

   public:
      T &operator()(int item) { return values_[item]; }
   };

   SerialGroup(Index index, unsigned seed, typename Kernel::Local &local) : index_(index), seed_(seed), local_(local) {}
   Index index() const { return index_; }
   typename Kernel::Local &local() { return local_; }

   template <class F>
   void each(const F &f) const
   {
      static_assert((Kernel::items & (Kernel::items - 1)) == 0, "a work-group has 2^n work-items");
      // An odd factor and any offset: all numbers modulo 2^n, once each.
      const unsigned factor = 2 * (seed_ % 1021) + 1, offset = seed_ / 3;
      for (unsigned i = 0; i < static_cast<unsigned>(Kernel::items); ++i)
         f(static_cast<int>((factor * i + offset) % static_cast<unsigned>(Kernel::items)));
   }
   template <class F>
   void last(const F &f) const
   {
      each(f);
   }
};

class Serial {
   unsigned seed_;

public:
   /// Runs what is enqueued at once.
   struct Queue {};
   template <class T>
   using Array = T *;

   class Memory {
      std::unique_ptr<char[]> bytes_;

   public:
      explicit Memory(std::size_t size) : bytes_(new char[size]) {}
      char *data() const { return bytes_.get(); }
   };

   /// The seed decides the order of the work-items.
   explicit Serial(const Queue &, unsigned seed = 0) : seed_(seed) {}

   Memory allocate(std::size_t size) const { return Memory(size); }
   template <class T>
   T *at(Memory &memory, Index begin) const
   {
      return reinterpret_cast<T *>(memory.data() + begin);
   }
   void upload(Memory &to, const void *from, std::size_t size) const
   {
      if (size)
         std::memcpy(to.data(), from, size);
   }
   void download(Queue &, void *to, Memory &from, std::size_t size) const
   {
      if (size)
         std::memcpy(to, from.data(), size);
   }

   template <class Kernel, class... Arrays>
   void groups(Queue &, Index count, const Kernel &kernel, Arrays... arrays) const
   {
      const auto local = std::make_unique<typename Kernel::Local>();
      for (Index index = 0; index < count; ++index) {
         std::memset(static_cast<void *>(local.get()), 0xff, sizeof(typename Kernel::Local));
         SerialGroup<Kernel> group(index, seed_, *local);
         kernel(group, arrays...);
      }
   }
};

} // namespace device
} // namespace sofie

#endif
