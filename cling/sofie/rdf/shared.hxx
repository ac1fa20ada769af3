/// \file
/// The models that this process has been sent, for all versions of these headers that are in it: what stands here
/// never changes. Another form needs another name.
#ifndef SOFIE_RDF_SHARED_HXX
#define SOFIE_RDF_SHARED_HXX

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <map>
#include <mutex>
#include <string>
#endif

namespace sofie_rdf_shared {

/// The table of a model's functions (sofie::Entries), and what its `load` has given.
struct Model {
   const void *entries = nullptr;
   void *weights = nullptr;
};

/// They stay until the process ends, when the interpreter may be gone.
struct Models {
   std::mutex mutex;
   std::map<std::string, Model> by_checksum;
};
inline Models &models()
{
   static Models &all = *new Models;
   return all;
}

} // namespace sofie_rdf_shared

#endif
