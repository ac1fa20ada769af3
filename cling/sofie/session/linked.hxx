/// \file
/// A Session whose code has been compiled elsewhere: by another compiler, or for another CPU than
/// the code around it. It knows that code by the addresses of functions with C types.
#ifndef SOFIE_SESSION_LINKED_HXX
#define SOFIE_SESSION_LINKED_HXX

#include "sofie/session/entries.hxx"

SOFIE_BEGIN

namespace sofie {

/// The weights in the bytes of the file `name`; std::runtime_error if they are not this code's.
inline void *loaded(const Entries &entries, const void *bytes, std::size_t size, const char *name = "weights in memory")
{
   char message[512] = {};
   if (void *weights = entries.load(bytes, size, name, message, sizeof message))
      return weights;
   throw std::runtime_error(message);
}

/// The same, from the file.
inline void *opened(const Entries &entries, const std::string &path)
{
   std::FILE *const file = std::fopen(path.c_str(), "rb");
   if (!file)
      throw std::runtime_error(path + ": cannot be opened. Give the Session the path of the weight file that was "
                                      "written with its header");
   constexpr std::size_t piece = std::size_t{1} << 20;
   std::vector<char> bytes;
   for (std::size_t got = piece; got == piece;) {
      const std::size_t done = bytes.size();
      bytes.resize(done + piece);
      got = std::fread(bytes.data() + done, 1, piece, file);
      bytes.resize(done + got);
   }
   std::fclose(file);
   return loaded(entries, bytes.data(), bytes.size(), path.c_str());
}

/// Weights and a Session behind such functions. A copy shares the weights, as a Session's does.
class Linked {
   const Entries *entries_;
   std::shared_ptr<void> weights_;
   void *handle_;

   Linked(const Entries &entries, std::shared_ptr<void> weights)
      : entries_(&entries), weights_(std::move(weights)), handle_(entries.create(weights_.get()))
   {
   }

public:
   /// With the weights of a file.
   Linked(const Entries &entries, const std::string &path)
      : Linked(entries, std::shared_ptr<void>(opened(entries, path), entries.unload))
   {
   }
   /// With the weights in the bytes of a file.
   Linked(const Entries &entries, const std::vector<char> &bytes)
      : Linked(entries, std::shared_ptr<void>(loaded(entries, bytes.data(), bytes.size()), entries.unload))
   {
   }
   /// With weights that `load` has given; they are shared.
   Linked(const Entries &entries, void *weights)
      : Linked(entries, std::shared_ptr<void>(entries.share(weights), entries.unload))
   {
   }
   Linked(const Linked &other) : Linked(*other.entries_, other.weights_) {}
   Linked(Linked &&other) noexcept
      : entries_(other.entries_), weights_(std::move(other.weights_)), handle_(other.handle_)
   {
      other.handle_ = nullptr;
   }
   Linked &operator=(Linked other) noexcept
   {
      std::swap(entries_, other.entries_);
      std::swap(weights_, other.weights_);
      std::swap(handle_, other.handle_);
      return *this;
   }
   ~Linked()
   {
      if (handle_)
         entries_->destroy(handle_);
   }

   void call(const std::size_t *sizes, const void *const *in, void *const *out)
   {
      if (const char *message = entries_->call(handle_, sizes, in, out))
         throw std::runtime_error(message);
   }

   /// The elements of result number `index` of the last call, and how many they are.
   const void *result(std::size_t index, std::size_t rank, std::size_t &count) const
   {
      std::vector<std::size_t> extents(rank + 1);
      const void *const data = entries_->result(handle_, index, extents.data());
      count = 1;
      for (std::size_t i = 0; i < rank; ++i)
         count *= extents[i];
      return data;
   }

   /// Copies result number `index` of the last call, whose size the data have decided.
   template <class Owned>
   void take(std::size_t index, Owned &to) const
   {
      std::size_t extents[Owned::rank + 1];
      const void *const data = entries_->result(handle_, index, extents);
      Sizes<Owned::rank> shape{};
      for (int i = 0; i < Owned::rank; ++i)
         shape[i] = static_cast<Size>(extents[i]);
      to.resize(shape);
      __builtin_memcpy(static_cast<void *>(to.data()), data,
                       static_cast<std::size_t>(to.size()) * sizeof(typename Owned::Element));
   }
};

} // namespace sofie

SOFIE_END

#endif
