/// \file
/// Weights in a .root file: the bytes of a weight file, in strings as those of a whole model are.
#ifndef SOFIE_RDF_ROOT_WEIGHTS_HXX
#define SOFIE_RDF_ROOT_WEIGHTS_HXX

#include "sofie/rdf/stored.hxx"

namespace sofie {

/// The bytes in `directory` of a .root file: its strings `weights`, `weights_1`, ... They have a checksum of their own.
inline std::vector<char> stored_weights(const std::string &path, const std::string &directory)
{
   const Quiet quiet;
   try {
      StoredFile file(path);
      for (const StoredKey &key : file.keys()) {
         if (key.name != directory)
            continue;
         const std::vector<StoredKey> inside = file.keys(key);
         const std::string bytes = file.strings(inside, "weights", inside.size());
         return std::vector<char>(bytes.begin(), bytes.end());
      }
   } catch (const std::runtime_error &error) {
      throw std::runtime_error(path + ": " + error.what() +
                               ". Give the Session the path of the .root file that was written with its header");
   }
   throw std::runtime_error(path + ": has no weights called " + directory);
}

} // namespace sofie

#endif
