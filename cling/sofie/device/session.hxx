/// \file
/// What all Sessions on devices share: launches, weights on the device, arrays of the host, and what is refused.
#ifndef SOFIE_DEVICE_SESSION_HXX
#define SOFIE_DEVICE_SESSION_HXX

#include "sofie/session/arena.hxx"
#include "sofie/device/half.hxx"
#include "sofie/session/weights.hxx"

namespace sofie {
namespace device {

/// Throws if the condition does not hold.
inline void require(bool condition, const std::string &what)
{
   if (!condition)
      throw std::invalid_argument(what);
}

/// A size that the caller gives: not negative, and not larger than the Session was made for.
inline void require_size(Index size, Index most, const char *name)
{
   require(size >= 0 && size <= most, std::string(name) + " = " + std::to_string(size) + " is not in 0 ... " +
                                         std::to_string(most) + ", for which this Session was made");
}

/// The most that a size will be, as the constructor of a Session is told.
inline Index require_most(Index most, const char *name)
{
   require(most >= 1 && most <= Index{1} << 40,
           std::string(name) + ": a Session is made for sizes from 1 to 2^40, not " + std::to_string(most));
   return most;
}

/// The memory for these sizes, which must be a number of bytes.
inline std::size_t bytes_of(Index bytes)
{
   require(bytes >= 0 && bytes <= Index{1} << 60, "there is no memory for a Session of these sizes");
   return static_cast<std::size_t>(bytes);
}

/// Memory that a kernel only reads.
template <class T>
const T *read(T *array)
{
   return array;
}

/// Enqueues a kernel by item.
template <class Adapter, class Kernel, class... Arrays>
void items(const Adapter &adapter, typename Adapter::Queue &queue, Index count, const Kernel &kernel,
           const Arrays &...arrays)
{
   if (count > 0)
      adapter.groups(queue, divided_up(count, items_of_a_group), ByItem<Kernel>{kernel, count}, arrays...);
}

/// Enqueues a kernel by work-group.
template <class Adapter, class Kernel, class... Arrays>
void groups(const Adapter &adapter, typename Adapter::Queue &queue, Index count, const Kernel &kernel,
            const Arrays &...arrays)
{
   if (count > 0)
      adapter.groups(queue, count, kernel, arrays...);
}

/// Enqueues a product of matrices: blas.hxx has a form for libraries.
template <class Adapter, class Kernel, class... Arrays>
void gemm(const Adapter &adapter, typename Adapter::Queue &queue, Index count, const Kernel &kernel,
          const Arrays &...arrays)
{
   groups(adapter, queue, count, kernel, arrays...);
}

/// How many events a work-group of a whole network takes, of `most` at most: as few as make `busy` work-groups.
inline Index events_of_a_group(Index events, Index most, Index busy)
{
   const Index found = divided_up(events, busy);
   return found < 1 ? 1 : found > most ? most : found;
}

/// Copies a constant to where it is among the weights on the device.
template <class V>
void put(std::vector<char> &bytes, std::size_t begin, V tensor)
{
   const std::size_t size = static_cast<std::size_t>(tensor.size()) * sizeof(*tensor.data());
   if (size)
      std::memcpy(bytes.data() + begin, tensor.data(), size);
}

/// The weights of a model on one device, which all Sessions there may share.
template <class Adapter>
class Weights {
   std::shared_ptr<typename Adapter::Memory> memory_;

public:
   /// Waits until they are there.
   Weights(const Adapter &adapter, const std::vector<char> &bytes)
      : memory_(std::make_shared<typename Adapter::Memory>(adapter.allocate(bytes.size())))
   {
      adapter.upload(*memory_, bytes.data(), bytes.size());
   }
   typename Adapter::Memory &memory() const { return *memory_; }
};

/// An array of the host on the device for one call.
template <class Adapter, class T>
class Staged {
   const Adapter &adapter_;
   typename Adapter::Memory memory_;

public:
   Staged(const Adapter &adapter, std::size_t size) : adapter_(adapter), memory_(adapter.allocate(size * sizeof(T))) {}
   auto array() { return adapter_.template at<T>(memory_, 0); }
   template <class Vector>
   void from(const Vector &host)
   {
      static_assert(sizeof(host[0]) == sizeof(T), "the same elements");
      adapter_.upload(memory_, host.data(), host.size() * sizeof(T));
   }
   template <class Vector>
   void to(typename Adapter::Queue &queue, Vector &host)
   {
      static_assert(sizeof(host[0]) == sizeof(T), "the same elements");
      adapter_.download(queue, host.data(), memory_, host.size() * sizeof(T));
   }
};

} // namespace device
} // namespace sofie

#endif
