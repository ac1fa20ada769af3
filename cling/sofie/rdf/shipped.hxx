/// \file
/// A model on a worker of a distributed RDataFrame: sent as a file beside a header, compiled for the CPU of the worker
/// and loaded once in a process, and called by any number of threads.
///
/// The worker needs ROOT and nothing else. `sofie_rdf.runtime.rdataframe.cluster` writes what includes this.
#ifndef SOFIE_RDF_SHIPPED_HXX
#define SOFIE_RDF_SHIPPED_HXX

#include "sofie/session/linked.hxx"
#include "sofie/rdf/columns.hxx"
#include "sofie/rdf/native.hxx"
#include "sofie/rdf/sha256.hxx"
#include "sofie/rdf/shared.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TSystem.h>
#include <atomic>
#include <cmath>
#include <thread>
#endif

namespace sofie {

/// The file: C++, from `weights` on the weights, and from `numbers` on those of the first result.
struct Parcel {
   const char *model, *file, *sha256;
   std::size_t weights, numbers, size;
   const char *space; ///< The namespace of the C++.
   /// The name of an output that is not what it should be, or null.
   const char *(*try_out)(Linked &code, const char *numbers);
};

/// The folders in which the interpreter looks for headers. ROOT puts there what it distributes.
inline std::vector<std::string> header_folders()
{
   const std::string path = TInterpreter::Instance()->GetIncludePath(), mark = "-I\"";
   std::vector<std::string> folders;
   for (std::size_t at = path.find(mark); at != std::string::npos; at = path.find(mark, at)) {
      at += mark.size();
      folders.push_back(path.substr(at, path.find('"', at) - at));
   }
   return folders;
}

/// The bytes of the file in this folder; nothing, where it is absent or not whole.
inline std::string read_parcel(const Parcel &parcel, const std::string &folder)
{
   std::ifstream file(folder + "/" + parcel.file, std::ios::binary | std::ios::ate);
   if (!file || static_cast<std::size_t>(file.tellg()) != parcel.size)
      return {};
   std::string bytes(parcel.size, '\0');
   file.seekg(0);
   file.read(&bytes[0], static_cast<std::streamsize>(parcel.size));
   return file ? bytes : std::string();
}

/// The bytes of the file. Another job that sends it again writes it anew while it is read here.
inline std::string received(const Parcel &parcel)
{
   constexpr int most = 200;
   for (int tries = 0; tries < most; ++tries) {
      for (const std::string &folder : header_folders()) {
         const std::string bytes = read_parcel(parcel, folder);
         if (bytes.empty())
            continue;
         if (sha256(bytes) != parcel.sha256)
            throw std::runtime_error("model '" + std::string(parcel.model) + "' is damaged on this worker: " + folder +
                                     "/" + parcel.file);
         return bytes;
      }
      gSystem->Sleep(100);
   }
   throw std::runtime_error("model '" + std::string(parcel.model) + "' has not arrived on this worker: no file " +
                            parcel.file);
}

/// The functions of the model, compiled for this CPU.
inline const Entries &compiled(const Parcel &parcel, const std::string &code)
{
   const InstructionSet set = instruction_set();
   std::string text = "#define SOFIE_SHIPPED_SIMD_BYTES " + std::to_string(set.simd_bytes) + "\n";
   if (*set.target)
      text += std::string("#define SOFIE_SHIPPED_TARGET \"") + set.target + "\"\n";
   text += code + "#undef SOFIE_SHIPPED_SIMD_BYTES\n#undef SOFIE_SHIPPED_TARGET\n";
   const std::string space = parcel.space;
   TInterpreter &cling = *TInterpreter::Instance();
   TInterpreter::EErrorCode failed = TInterpreter::kNoError;
   std::uintptr_t table = 0;
   // A symbol that is missing is no error in Cling: then `linked` returns something else.
   constexpr Longptr_t is_linked = 50310;
   const std::string where = std::to_string(reinterpret_cast<std::uintptr_t>(&table));
   const std::string link = space + "::linked(reinterpret_cast<std::uintptr_t *>(" + where + "))";
   const bool linked = cling.Declare(text.c_str()) && cling.Calc(link.c_str(), &failed) == is_linked;
   if (!linked || failed != TInterpreter::kNoError)
      throw std::runtime_error(std::string("ROOT's interpreter refused the code of model '") + parcel.model +
                               "' on this worker; its message says why");
   return *reinterpret_cast<const Entries *>(table);
}

/// A Session of the model, which is compiled, loaded and tried out if no other has been here.
inline Linked shipped(const Parcel &parcel)
{
   sofie_rdf_shared::Models &models = sofie_rdf_shared::models();
   const std::lock_guard<std::mutex> lock(models.mutex);
   sofie_rdf_shared::Model &model = models.by_checksum[parcel.sha256];
   if (!model.weights) {
      const std::string bytes = received(parcel);
      const Entries &entries = compiled(parcel, bytes.substr(0, parcel.weights));
      void *const weights =
         loaded(entries, bytes.data() + parcel.weights, parcel.numbers - parcel.weights, parcel.model);
      Linked session(entries, weights);
      const char *const wrong = parcel.try_out ? parcel.try_out(session, bytes.data() + parcel.numbers) : nullptr;
      if (wrong) {
         entries.unload(weights);
         throw std::runtime_error(std::string("model '") + parcel.model + "': output '" + wrong +
                                  "' differs on this worker from the reference: please report this");
      }
      model = {&entries, weights};
   }
   return Linked(*static_cast<const Entries *>(model.entries), model.weights);
}

/// A number of any element type; ColumnOf is float for those that C++ has not.
template <class T>
inline double as_double(T number)
{
   return static_cast<double>(static_cast<ColumnOf<T>>(number));
}

/// Whether numbers are as near to what is wanted as bounds (float64) say; -1 is no bound.
template <class T>
inline bool agrees(const T *found, const char *wanted, const char *bounds, std::size_t count)
{
   for (std::size_t i = 0; i < count; ++i) {
      const double bound = reinterpret_cast<const double *>(bounds)[i];
      const double right = as_double(reinterpret_cast<const T *>(wanted)[i]);
      if (!(bound < 0 || std::abs(as_double(found[i]) - right) <= bound))
         return false;
   }
   return true;
}

/// Copies of a Work, of which a thread borrows one for each event. Slots are no names for them: the threads of a worker
/// run tasks of their own, and each of these has a slot 0.
template <class Work>
class Crew {
   static constexpr std::size_t count = 64;
   struct alignas(64) Place {
      std::atomic<Work *> idle{nullptr};
   };
   Work first_;
   Place places_[count];

   static std::size_t mine() { return std::hash<std::thread::id>()(std::this_thread::get_id()) % count; }

public:
   explicit Crew(const Work &first) : first_(first) {}
   Crew(const Crew &) = delete;
   Crew &operator=(const Crew &) = delete;

   class Borrowed {
      Crew &crew_;
      Work *work_;

   public:
      explicit Borrowed(Crew &crew) : crew_(crew), work_(crew.take()) {}
      Borrowed(const Borrowed &) = delete;
      Borrowed &operator=(const Borrowed &) = delete;
      ~Borrowed() { crew_.give(work_); }
      Work &operator*() const { return *work_; }
   };

private:
   Work *take()
   {
      const std::size_t begin = mine();
      for (std::size_t i = 0; i < count; ++i)
         if (Work *const work = places_[(begin + i) % count].idle.exchange(nullptr, std::memory_order_acquire))
            return work;
      return new Work(first_);
   }
   void give(Work *work)
   {
      const std::size_t begin = mine();
      for (std::size_t i = 0; i < count; ++i) {
         Work *none = nullptr;
         if (places_[(begin + i) % count].idle.compare_exchange_strong(none, work, std::memory_order_release))
            return;
      }
      delete work;
   }
};

} // namespace sofie

#endif
