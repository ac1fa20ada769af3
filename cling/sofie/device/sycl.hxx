/// \file
/// The adapters for SYCL 2020: kernels in a queue of the user's, on pointers of USM (Sycl) or on buffers with
/// accessors (SyclBuffers). C++20, for SYCL's own sake C++17 suffices. It was never run on a GPU.
#ifndef SOFIE_DEVICE_SYCL_HXX
#define SOFIE_DEVICE_SYCL_HXX

#include <sycl/sycl.hpp>

#include "sofie/device/session.hxx"

namespace sofie {
namespace device {

/// The functions of SYCL.
struct SyclMath {
#define SOFIE_DEVICE_UNARY(name) \
   template <class T>            \
   T name(T x) const             \
   {                             \
      return sycl::name(x);      \
   }
#define SOFIE_DEVICE_BINARY(name) \
   template <class T>             \
   T name(T x, T y) const         \
   {                              \
      return sycl::name(x, y);    \
   }
   SOFIE_DEVICE_MATH(SOFIE_DEVICE_UNARY, SOFIE_DEVICE_BINARY)
#ifndef SIMSYCL_VERSION
   SOFIE_DEVICE_MORE_MATH(SOFIE_DEVICE_UNARY)
#else
   template <class T>
   T expm1(T x) const
   {
      return std::expm1(x);
   }
   template <class T>
   T asinh(T x) const
   {
      return std::asinh(x);
   }
#endif
#undef SOFIE_DEVICE_UNARY
#undef SOFIE_DEVICE_BINARY
};

/// A work-group as one of its work-items sees it.
template <class Kernel>
class SyclGroup {
   sycl::nd_item<1> item_;
   typename Kernel::Local &local_;

public:
   using MathOfIt = SyclMath;

   /// A variable of each work-item.
   template <class T>
   class Private {
      T value_;

   public:
      T &operator()(int) { return value_; }
   };

   SyclGroup(const sycl::nd_item<1> &item, typename Kernel::Local &local) : item_(item), local_(local) {}
   Index index() const { return static_cast<Index>(item_.get_group(0)); }
   typename Kernel::Local &local() { return local_; }

   template <class F>
   void last(const F &f) const
   {
      f(static_cast<int>(item_.get_local_id(0)));
   }
   template <class F>
   void each(const F &f) const
   {
      last(f);
      sycl::group_barrier(item_.get_group());
   }
};

/// Enqueues a kernel in a command group; `resolved` gives the pointers in the kernel.
template <class Kernel, class... Given>
void submit_groups(sycl::handler &handler, Index count, const Kernel &kernel, const Given &...given)
{
   const sycl::local_accessor<typename Kernel::Local, 1> local(sycl::range<1>(1), handler);
   const auto items = static_cast<std::size_t>(Kernel::items);
   const sycl::nd_range<1> range(sycl::range<1>(static_cast<std::size_t>(count) * items), sycl::range<1>(items));
   handler.parallel_for(range, [=](sycl::nd_item<1> item) {
      SyclGroup<Kernel> group(item, local[0]);
      kernel(group, given.pointer()...);
   });
}

/// A pointer of USM, as kernels are given it.
template <class T>
struct SyclPointer {
   T *data;
   T *pointer() const { return data; }
};

/// Memory of the device that is freed with its last owner.
class SyclMemory {
   std::shared_ptr<char> bytes_;

public:
   SyclMemory(const sycl::queue &queue, std::size_t size)
      : bytes_(sycl::malloc_device<char>(size ? size : 1, queue), [queue](char *bytes) { sycl::free(bytes, queue); })
   {
      if (!bytes_)
         throw std::bad_alloc();
   }
   char *data() const { return bytes_.get(); }
};

/// On pointers of USM. The queue must be in order, since nothing else says what waits for what.
class Sycl {
   sycl::queue queue_;

   static void require_in_order(const sycl::queue &queue)
   {
      require(queue.is_in_order(), "a Session on USM pointers needs a queue that is made with the property "
                                   "sycl::property::queue::in_order; or use SyclBuffers");
   }

public:
   using Queue = sycl::queue;
   using Memory = SyclMemory;
   template <class T>
   using Array = T *;

   explicit Sycl(const sycl::queue &queue) : queue_(queue) { require_in_order(queue); }

   Memory allocate(std::size_t size) const { return Memory(queue_, size); }
   template <class T>
   T *at(Memory &memory, Index begin) const
   {
      return reinterpret_cast<T *>(memory.data() + begin);
   }
   /// Waits until it is there.
   void upload(Memory &to, const void *from, std::size_t size) const
   {
      if (size)
         sycl::queue(queue_).memcpy(to.data(), from, size).wait();
   }
   /// Waits until all that was enqueued before is done, and the copy.
   void download(Queue &queue, void *to, Memory &from, std::size_t size) const
   {
      if (size)
         queue.memcpy(to, from.data(), size);
      queue.wait();
   }

   template <class Kernel, class... T>
   void groups(Queue &queue, Index count, const Kernel &kernel, T *...arrays) const
   {
      require_in_order(queue);
      queue.submit([&](sycl::handler &handler) { submit_groups(handler, count, kernel, SyclPointer<T>{arrays}...); });
   }
};

/// Elements in a buffer of bytes, from `begin` on.
template <class T>
class SyclArray {
   using Bytes = sycl::buffer<unsigned char, 1>;
   Bytes bytes_;
   Index begin_;

public:
   SyclArray(const Bytes &bytes, Index begin) : bytes_(bytes), begin_(begin) {}
   template <class Other>
   requires std::is_same_v<std::remove_const_t<T>, std::remove_const_t<Other>> SyclArray(const SyclArray<Other> &other)
      : bytes_(other.bytes()), begin_(other.begin())
   {
   }
   SyclArray(sycl::buffer<std::remove_const_t<T>, 1> buffer)
      : bytes_(buffer.template reinterpret<unsigned char, 1>(sycl::range<1>(buffer.byte_size()))), begin_(0)
   {
   }
   Bytes bytes() const { return bytes_; }
   Index begin() const { return begin_; }
};

template <class T>
SyclArray<const T> read(const SyclArray<T> &array)
{
   return array;
}

/// An accessor, as kernels are given it.
template <class T>
class SyclAccess {
   static constexpr sycl::access_mode mode =
      std::is_const_v<T> ? sycl::access_mode::read : sycl::access_mode::read_write;
   sycl::accessor<unsigned char, 1, mode> bytes_;
   Index begin_;

   static auto accessor_of(const SyclArray<T> &array, sycl::handler &handler)
   {
      auto bytes = array.bytes();
      return sycl::accessor<unsigned char, 1, mode>(bytes, handler);
   }

public:
   SyclAccess(const SyclArray<T> &array, sycl::handler &handler)
      : bytes_(accessor_of(array, handler)), begin_(array.begin())
   {
   }
   T *pointer() const
   {
      auto *const data = bytes_.template get_multi_ptr<sycl::access::decorated::no>().get();
      return reinterpret_cast<T *>(data + begin_);
   }
};

/// On buffers, whose accessors say what waits for what.
class SyclBuffers {
   sycl::queue queue_;

public:
   using Queue = sycl::queue;
   using Memory = sycl::buffer<unsigned char, 1>;
   template <class T>
   using Array = SyclArray<T>;

   explicit SyclBuffers(const sycl::queue &queue) : queue_(queue) {}

   Memory allocate(std::size_t size) const { return Memory(sycl::range<1>(size ? size : 1)); }
   template <class T>
   SyclArray<T> at(Memory &memory, Index begin) const
   {
      return SyclArray<T>(memory, begin);
   }
   void upload(Memory &to, const void *from, std::size_t size) const
   {
      if (!size)
         return;
      const sycl::host_accessor bytes(to, sycl::write_only);
      std::memcpy(&bytes[0], from, size);
   }
   void download(Queue &, void *to, Memory &from, std::size_t size) const
   {
      if (!size)
         return;
      const sycl::host_accessor bytes(from, sycl::read_only);
      std::memcpy(to, &bytes[0], size);
   }

   template <class Kernel, class... T>
   void groups(Queue &queue, Index count, const Kernel &kernel, const SyclArray<T> &...arrays) const
   {
      queue.submit(
         [&](sycl::handler &handler) { submit_groups(handler, count, kernel, SyclAccess<T>(arrays, handler)...); });
   }
};

} // namespace device
} // namespace sofie

#endif
