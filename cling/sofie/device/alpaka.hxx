/// \file
/// The adapter for alpaka 3: kernels in a queue of the user's, by an executor of the user's choice. C++20.
/// It runs on alpaka's executors of CPUs, and nvcc compiles it. It was never run on a GPU.
///
/// A block has as many threads as the kernel has work-items, and one thread on the executors of a CPU, which then does
/// the work of all, between two barriers.
#ifndef SOFIE_DEVICE_ALPAKA_HXX
#define SOFIE_DEVICE_ALPAKA_HXX

#include <alpaka/alpaka.hpp>

#include "sofie/device/session.hxx"

namespace sofie {
namespace device {

/// A work-group of which this thread does all work (on a CPU), or that of one work-item.
template <class Acc, class Kernel>
class AlpakaGroup {
   static constexpr bool one_thread =
      std::is_same_v<std::remove_cvref_t<decltype(std::declval<Acc>().getApi())>, alpaka::api::Host>;
   const Acc &acc_;
   typename Kernel::Local &local_;
   Index index_;

   SOFIE_DEVICE int item() const
   {
      return static_cast<int>(acc_.getIdxWithin(alpaka::onAcc::origin::block, alpaka::onAcc::unit::threads).x());
   }

public:
   using MathOfIt = Math;

   /// A variable of each work-item: a register where each has a thread.
   template <class T>
   class Private {
      T values_[one_thread ? static_cast<std::size_t>(Kernel::items) : 1];

   public:
      SOFIE_DEVICE T &operator()(int item) { return values_[one_thread ? item : 0]; }
   };

   SOFIE_DEVICE AlpakaGroup(const Acc &acc, Index index, typename Kernel::Local &local)
      : acc_(acc), local_(local), index_(index)
   {
   }
   SOFIE_DEVICE Index index() const { return index_; }
   SOFIE_DEVICE typename Kernel::Local &local() { return local_; }

   template <class F>
   SOFIE_DEVICE void last(const F &f) const
   {
      if constexpr (one_thread)
         for (int i = 0; i < Kernel::items; ++i)
            f(i);
      else
         f(item());
   }
   template <class F>
   SOFIE_DEVICE void each(const F &f) const
   {
      last(f);
      alpaka::onAcc::syncBlockThreads(acc_);
   }
};

/// A kernel as alpaka calls it.
template <class Kernel>
struct AlpakaKernel {
   Kernel kernel;

   template <class Acc, class... T>
   ALPAKA_FN_ACC void operator()(const Acc &acc, T *...arrays) const
   {
      auto &local = alpaka::onAcc::declareSharedVar<typename Kernel::Local, alpaka::uniqueId()>(acc);
      const auto block = acc.getIdxWithin(alpaka::onAcc::origin::grid, alpaka::onAcc::unit::blocks).x();
      AlpakaGroup<Acc, Kernel> group(acc, static_cast<Index>(block), local);
      kernel(group, arrays...);
   }
};

/// A pointer to memory of the device, or a buffer or view that has one.
template <class T>
class AlpakaArray {
   T *data_;

public:
   AlpakaArray(T *data) : data_(data) {}
   template <class Buffer>
   requires requires(Buffer &buffer)
   {
      {buffer.data()}->std::convertible_to<T *>;
   }
   AlpakaArray(Buffer &&buffer) : data_(buffer.data()) {}
   operator T *() const { return data_; }
};

template <class T>
const T *read(const AlpakaArray<T> &array)
{
   return array;
}

/// The device of a queue, and the executor that runs kernels there.
template <class QueueOfIt, class Executor>
class Alpaka {
   using Device = decltype(std::declval<QueueOfIt>().getDevice());
   Device device_;

   static auto bytes_on(Device device, std::size_t size)
   {
      return alpaka::onHost::alloc<char>(device, size ? size : std::size_t{1});
   }

public:
   using Queue = QueueOfIt;
   using Memory = decltype(bytes_on(std::declval<Device>(), 1));
   template <class T>
   using Array = AlpakaArray<T>;

   Alpaka(const Queue &queue, Executor) : device_(queue.getDevice()) {}

   Memory allocate(std::size_t size) const { return bytes_on(device_, size); }
   template <class T>
   T *at(Memory &memory, Index begin) const
   {
      return reinterpret_cast<T *>(alpaka::onHost::data(memory) + begin);
   }

   /// Waits until it is there.
   void upload(Memory &to, const void *from, std::size_t size) const
   {
      if (!size)
         return;
      auto queue = Device(device_).makeQueue();
      const auto view = alpaka::makeView(alpaka::api::host, static_cast<const char *>(from), alpaka::Vec{size});
      alpaka::onHost::memcpy(queue, to, view, alpaka::Vec{size});
      alpaka::onHost::wait(queue);
   }
   /// Waits until all that was enqueued before is done, and the copy.
   void download(Queue &queue, void *to, Memory &from, std::size_t size) const
   {
      if (size) {
         auto view = alpaka::makeView(alpaka::api::host, static_cast<char *>(to), alpaka::Vec{size});
         alpaka::onHost::memcpy(queue, view, from, alpaka::Vec{size});
      }
      alpaka::onHost::wait(queue);
   }

   template <class Kernel, class... Arrays>
   void groups(Queue &queue, Index count, const Kernel &kernel, const Arrays &...arrays) const
   {
      constexpr bool one_thread =
         std::is_same_v<std::remove_cvref_t<decltype(std::declval<Device>().getApi())>, alpaka::api::Host>;
      const auto blocks = alpaka::Vec{static_cast<std::size_t>(count)};
      const auto threads = alpaka::Vec{static_cast<std::size_t>(one_thread ? 1 : Kernel::items)};
      queue.enqueue(alpaka::onHost::ThreadSpec{blocks, threads, Executor{}}, AlpakaKernel<Kernel>{kernel},
                    pointer(arrays)...);
   }

private:
   template <class T>
   static T *pointer(T *array)
   {
      return array;
   }
   template <class T>
   static T *pointer(const AlpakaArray<T> &array)
   {
      return array;
   }
};

} // namespace device
} // namespace sofie

#endif
