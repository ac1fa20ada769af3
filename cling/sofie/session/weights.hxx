/// \file
/// The weight file, and memory that is aligned for packs.
///
/// A weight file is, in little-endian order: the eight bytes "SOFIEDAT"; the 64-bit number of its
/// format, 2; the 64-bit number of tensors; the checksum of all other words (session/checksum.hxx); then for each
/// tensor its offset from the start of the file and its size in bytes, both 64-bit; then the tensors, each at a
/// multiple of 64 bytes. The order of tensors is part of the header that reads the file.
#ifndef SOFIE_SESSION_WEIGHTS_HXX
#define SOFIE_SESSION_WEIGHTS_HXX

#include "sofie/session/checksum.hxx"
#include "sofie/view.hxx"

SOFIE_BEGIN

namespace sofie {

/// Memory that is zero, aligned to cache lines. Out of line, as all that fills weights: it is compiled once, not for
/// each.
SOFIE_ONCE inline void *zeros(std::size_t bytes)
{
   void *const memory = ::operator new(bytes ? bytes : 1, std::align_val_t(64));
   __builtin_memset(memory, 0, bytes);
   return memory;
}

/// Memory for `size` elements, aligned to cache lines, zero at first. A value: copying copies.
template <class T>
class Buffer {
   Size size_ = 0;
   T *data_ = nullptr;

   // Not std::swap: Cling does not compile a template again for one declaration that it has
   // compiled for another one that failed.
   void take(Buffer &other) noexcept
   {
      const Size size = size_;
      T *const data = data_;
      size_ = other.size_;
      data_ = other.data_;
      other.size_ = size;
      other.data_ = data;
   }

public:
   Buffer() = default;
   explicit Buffer(Size size) : size_(size), data_(static_cast<T *>(zeros(static_cast<std::size_t>(size) * sizeof(T))))
   {
   }
   Buffer(const Buffer &other) : Buffer(other.size_)
   {
      __builtin_memcpy(static_cast<void *>(data_), other.data_, static_cast<std::size_t>(size_) * sizeof(T));
   }
   Buffer(Buffer &&other) noexcept { take(other); }
   Buffer &operator=(Buffer other) noexcept
   {
      take(other);
      return *this;
   }
   ~Buffer() { ::operator delete(data_, std::align_val_t(64)); }

   SOFIE_INLINE T *data() { return data_; }
   SOFIE_INLINE const T *data() const { return data_; }
   SOFIE_INLINE Size size() const { return size_; }
};

/// A weight file in memory, checked as a whole when it is opened and by size at each tensor.
class WeightFile {
   Buffer<char> own_;
   const char *bytes_ = nullptr;
   std::size_t size_ = 0;
   const char *name_;

   [[noreturn]] SOFIE_ONCE void fail(const char *why, unsigned long tensor = 0) const
   {
      // Not std::string: what a start of ROOT's interpreter does with it takes 10 ms.
      char text[1024];
      const int length = std::snprintf(text, sizeof text, "%s: ", name_);
      const std::size_t begin = static_cast<std::size_t>(length) < sizeof text ? static_cast<std::size_t>(length) : 0;
      std::snprintf(text + begin, sizeof text - begin, why, tensor);
      throw std::runtime_error(text);
   }

   std::uint64_t number(std::size_t at) const
   {
      std::uint64_t value;
      __builtin_memcpy(&value, bytes_ + at, sizeof value);
      return value;
   }

   static constexpr std::size_t head = 32;

   SOFIE_KERNEL void check() const
   {
      if (size_ < head || __builtin_memcmp(bytes_, "SOFIEDAT", 8) != 0)
         fail("is no weight file of sofie_rdf");
      if (number(8) != 2)
         fail("has format %lu, and these headers read 2: emit the model again", static_cast<unsigned long>(number(8)));
      if (size_ % 8 != 0 || checksum_of_file(bytes_, size_) != number(24))
         fail("is truncated or damaged");
      if (number(16) > (size_ - head) / 16)
         fail("has a table that does not fit in it");
   }

   /// The bytes of tensor number `index`, if it has as many as are wanted.
   SOFIE_ONCE const char *at(std::size_t index, std::size_t wanted) const
   {
      const std::size_t entry = head + 16 * index;
      if (index >= number(16) || number(entry + 8) != wanted || number(entry) > size_ ||
          wanted > size_ - number(entry) || number(entry) % 64 != 0)
         fail("does not belong to this header: tensor %lu differs", index);
      return bytes_ + number(entry);
   }

public:
   /// Reads a file, whose name must last as long.
   explicit WeightFile(const char *path) : name_(path)
   {
      std::FILE *file = std::fopen(path, "rb");
      if (!file)
         fail("cannot be opened. Give the Session the path of the weight file that was written with its header");
      std::fseek(file, 0, SEEK_END);
      const long end = std::ftell(file);
      std::fseek(file, 0, SEEK_SET);
      // A folder says that it has as many bytes as there are.
      own_ = Buffer<char>(end < 0 || end == static_cast<long>(~0UL >> 1) ? 0 : end);
      size_ = std::fread(own_.data(), 1, static_cast<std::size_t>(own_.size()), file);
      std::fclose(file);
      bytes_ = own_.data();
      check();
   }

   /// Uses the bytes of a file that are in memory, for as long as they and its name are.
   WeightFile(const void *bytes, std::size_t size, const char *name = "weights in memory")
      : bytes_(static_cast<const char *>(bytes)), size_(size), name_(name)
   {
      check();
   }
   explicit WeightFile(const std::string &path) : WeightFile(path.c_str()) {}
   explicit WeightFile(const std::vector<char> &bytes) : WeightFile(bytes.data(), bytes.size()) {}

   /// Tensor number `index`, as a view of this type.
   template <class V, class... Sizes>
   V tensor(std::size_t index) const
   {
      static_assert(V::is_static, "constants have sizes that are known");
      using T = typename V::Element;
      // The caller copies or packs it; the bytes themselves may stand anywhere in the user's memory.
      return V(reinterpret_cast<T *>(at(index, static_cast<std::size_t>(V(nullptr).size()) * sizeof(T))));
   }
};

/// A value that all copies of this have, as those of a std::shared_ptr have. (That takes ROOT's interpreter 50 ms.)
template <class T>
class Shared {
   struct Owned {
      union {
         T value;
      };
      long owners = 1;
      long watchers = 1; ///< All owners are one.
      template <class From>
      explicit Owned(const From &from) : value(from)
      {
      }
      ~Owned() {}
      void leave() noexcept
      {
         if (__sync_sub_and_fetch(&watchers, 1L) == 0)
            delete this;
      }
   };
   Owned *owned_;

   explicit Shared(Owned *owned) : owned_(owned) {}
   void take(Shared &other) noexcept
   {
      Owned *const owned = owned_;
      owned_ = other.owned_;
      other.owned_ = owned;
   }

public:
   /// A new value, T(from).
   template <class From>
   static Shared made(const From &from)
   {
      return Shared(new Owned(from));
   }
   Shared(const Shared &other) noexcept : owned_(other.owned_)
   {
      if (owned_)
         __sync_add_and_fetch(&owned_->owners, 1L);
   }
   Shared(Shared &&other) noexcept : owned_(nullptr) { take(other); }
   Shared &operator=(Shared other) noexcept
   {
      take(other);
      return *this;
   }
   ~Shared()
   {
      if (owned_ && __sync_sub_and_fetch(&owned_->owners, 1L) == 0) {
         owned_->value.~T();
         owned_->leave();
      }
   }
   SOFIE_INLINE const T &operator*() const { return owned_->value; }

   /// Finds the value as long as others own it.
   class Watcher {
      Owned *const watched_;

   public:
      explicit Watcher(const Shared &shared) : watched_(shared.owned_)
      {
         __sync_add_and_fetch(&watched_->watchers, 1L);
      }
      Watcher(const Watcher &) = delete;
      Watcher &operator=(const Watcher &) = delete;
      ~Watcher() { watched_->leave(); }
      /// One more owner on the heap; null where there is none any more.
      Shared *found() const
      {
         for (long owners = watched_->owners; owners > 0; owners = watched_->owners)
            if (__sync_bool_compare_and_swap(&watched_->owners, owners, owners + 1))
               return new Shared(watched_);
         return nullptr;
      }
   };
};

/// A constant tensor of one's own, of the shape and element type of the view `V`.
template <class V>
class Constant {
   using T = std::remove_const_t<typename V::Element>;
   Buffer<T> data_;

public:
   explicit Constant(V source) : data_(source.size())
   {
      __builtin_memcpy(static_cast<void *>(data_.data()), source.data(),
                       static_cast<std::size_t>(source.size()) * sizeof(T));
   }
   SOFIE_INLINE const T *data() const { return data_.data(); }
};

} // namespace sofie

SOFIE_END

#endif
