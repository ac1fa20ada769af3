/// \file
/// A model in a .root file, as sofie_rdf.ir.record describes it: found, read, and compared with its checksum.
#ifndef SOFIE_RDF_STORED_HXX
#define SOFIE_RDF_STORED_HXX

#include "sofie/rdf/json.hxx"
#include "sofie/rdf/private.hxx"
#include "sofie/rdf/sha256.hxx"
#include "sofie/rdf/stored_file.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TDirectory.h>
#include <TError.h>
#include <fstream>
#include <sstream>
#endif

namespace sofie {

/// A model as it is stored. `sha256` is the checksum of all of it.
struct StoredModel {
   std::string place; ///< The file and the name, for messages.
   Json about;
   std::string header;
   std::string weights;
   std::string sha256;
};

/// No messages of ROOT while it lives: what is wrong becomes an exception.
struct Quiet {
   const Int_t level = gErrorIgnoreLevel;
   TDirectory::TContext context;
   Quiet() { gErrorIgnoreLevel = kFatal; }
   Quiet(const Quiet &) = delete;
   Quiet &operator=(const Quiet &) = delete;
   ~Quiet() { gErrorIgnoreLevel = level; }
};

/// Reads models of one file.
class StoredModels {
   static constexpr std::size_t format = 2;
   static constexpr std::size_t chunk = std::size_t{1} << 29;

   std::string path_;

   static bool holds(const std::vector<StoredKey> &keys, const std::string &name, const char *type = "TObjString")
   {
      for (const StoredKey &key : keys)
         if (key.name == name && key.type == type)
            return true;
      return false;
   }

   /// The directory of the model of that name: what is no letter, digit, _, . or - is %XX there.
   static std::string encoded(const std::string &name)
   {
      std::string safe;
      for (const char c : name) {
         const unsigned char byte = static_cast<unsigned char>(c);
         const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                            c == '-' || (c == '.' && !safe.empty());
         if (plain)
            safe += c;
         else
            ((safe += '%') += "0123456789ABCDEF"[byte >> 4]) += "0123456789ABCDEF"[byte & 15];
      }
      constexpr std::size_t longest = 150;
      return safe.size() <= longest ? safe : safe.substr(0, longest) + "%~" + sofie::sha256(name);
   }

   /// The keys of a model in this directory; none if there is no model. One that has lost its weights is one, too.
   static std::vector<StoredKey> model_in(StoredFile &file, const StoredKey &directory)
   {
      std::vector<StoredKey> inside = file.keys(directory);
      const bool has_weights = holds(inside, "weights") || holds(inside, "weights", "ROOT::RNTuple");
      if (!holds(inside, "model") ||
          !(has_weights || file.string(inside, "model").find("\"format\":") != std::string::npos))
         inside.clear();
      return inside;
   }

   /// The keys of the model of that name, or of the only one; `place` learns which it is.
   static std::vector<StoredKey> chosen(StoredFile &file, const std::string &name, std::string &place)
   {
      const std::vector<StoredKey> top = file.keys();
      // A directory that somebody has renamed is called what it is called, unless that is another model's name.
      for (const std::string &wanted : {encoded(name), name})
         for (const StoredKey &key : top)
            if (!name.empty() && key.name == wanted) {
               std::vector<StoredKey> inside = model_in(file, key);
               if (inside.empty())
                  continue;
               place += ": model '" + name + "'";
               return inside;
            }
      std::vector<StoredKey> only;
      std::string found, listed;
      std::size_t count = 0;
      for (const StoredKey &key : top) {
         std::vector<StoredKey> inside = model_in(file, key);
         if (inside.empty())
            continue;
         listed += (listed.empty() ? "" : ", ") + key.name;
         found = key.name;
         only = std::move(inside);
         ++count;
      }
      if (count == 0)
         throw std::runtime_error("holds no model that a macro can read");
      if (!name.empty() || count > 1)
         throw std::runtime_error((name.empty() ? "say which model" : "has no model '" + name + "'") + "; it has " +
                                  listed);
      place += ": model '" + found + "'";
      return only;
   }

   static void require(bool is_sound)
   {
      if (!is_sound)
         throw std::runtime_error("the checksum is wrong: the model is damaged, or was changed by hand");
   }
   static void require_format(std::size_t written)
   {
      if (written != format)
         throw std::runtime_error("has the format " + std::to_string(written) + ", and these headers read " +
                                  std::to_string(format) + ": another version of sofie_rdf has written it");
   }
   static void compare(const Json &about, const std::string &content)
   {
      require(about["bytes"].size() == content.size() && about["sha256"].text() == sofie::sha256(content));
   }

   static void read(StoredFile &file, const std::vector<StoredKey> &keys, StoredModel &model)
   {
      const std::string text = file.string(keys, "model");
      // The text ends in ,"sha256":"..."} of what stands before that.
      const std::string seal = ",\"sha256\":\"";
      const std::size_t end = text.size() < seal.size() + 66 ? 0 : text.size() - seal.size() - 66;
      const std::string body = text.substr(0, end);
      try {
         model.about = Json(body + "}", file.left() / (2 * sizeof(Json)));
      } catch (const std::runtime_error &) {
         // Another format may look otherwise.
         const std::size_t at = text.find("\"format\":");
         require_format(at == std::string::npos ? format : std::strtoul(text.c_str() + at + 9, nullptr, 10));
         throw;
      }
      require_format(model.about["format"].size());
      model.sha256 = sofie::sha256(body);
      require(text.substr(end) == seal + model.sha256 + "\"}");
      const std::size_t size = model.about["weights"]["bytes"].size();
      for (const StoredKey &key : keys)
         if (key.name == "weights" && key.type == "ROOT::RNTuple")
            model.weights = file.ntuple(key, size);
      if (holds(keys, "weights"))
         model.weights = file.strings(keys, "weights", size ? (size - 1) / chunk + 1 : 1);
      model.header = file.string(keys, "header");
      compare(model.about["header"], model.header);
      compare(model.about["weights"], model.weights);
   }

public:
   /// Of a file anywhere where ROOT finds files.
   explicit StoredModels(const std::string &path) : path_(path) {}

   /// The model of that name, or the only one. All that it says about itself is as it was written.
   StoredModel model(const std::string &name) const
   {
      const Quiet quiet;
      StoredModel model;
      model.place = path_;
      try {
         StoredFile file(path_);
         read(file, chosen(file, name, model.place), model);
      } catch (const std::runtime_error &error) {
         throw std::runtime_error(model.place + ": " + error.what());
      }
      return model;
   }
};

/// Whether the user trusts the model of this checksum: it is given, or in SOFIE_RDF_TRUSTED, or in the list
/// that `sofie-rdf trust` and `Model.save` keep. Its header is code, and code from a stranger may do anything.
inline bool is_trusted(const std::string &sha256, const std::string &given)
{
   if (given == sha256)
      return true;
   const char *const variable = std::getenv("SOFIE_RDF_TRUSTED");
   std::string word;
   for (const char c : std::string(variable ? variable : "") + ",") {
      const bool is_digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
      if (!is_digit && word == sha256)
         return true;
      word = is_digit ? word + c : "";
   }
   const std::string path = folder_below("XDG_CONFIG_HOME", ".config") + "/sofie_rdf/trusted";
   if (!is_safe(path, "the list of trusted models"))
      return false;
   std::ifstream list(path);
   for (std::string line; std::getline(list, line);)
      if (line.substr(0, line.find(' ')) == sha256)
         return true;
   return false;
}

} // namespace sofie

#endif
