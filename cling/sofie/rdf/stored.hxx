/// \file
/// A model in a .root file, as sofie_rdf.ir.record describes it: found, read, and compared with its checksum.
#ifndef SOFIE_RDF_STORED_HXX
#define SOFIE_RDF_STORED_HXX

#include "sofie/rdf/json.hxx"
#include "sofie/rdf/sha256.hxx"

// Not in the modules of ROOT.
#include <RZip.h>

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TDirectory.h>
#include <TError.h>
#include <TFile.h>
#include <TInterpreter.h>
#include <cstdlib>
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

/// An object in a ROOT file: its key.
struct StoredKey {
   std::string type, name;
   int cycle = 0;
   std::size_t at = 0, bytes = 0, head = 0, length = 0;
};

/// The keys and strings of a ROOT file, read byte by byte with every number checked: ROOT's own classes trust
/// what a file says about its sizes, and a damaged one crashes them. Only reading (local and remote) and
/// decompression are ROOT's.
class StoredFile {
   std::unique_ptr<TFile> file_;
   std::size_t size_ = 0;

   [[noreturn]] static void fail() { throw std::runtime_error("is damaged"); }

   /// Part of the file.
   std::string read(std::size_t at, std::size_t count)
   {
      if (at > size_ || count > size_ - at || count > largest)
         fail();
      std::string bytes(count, '\0');
      if (count && file_->ReadBuffer(&bytes[0], static_cast<Long64_t>(at), static_cast<Int_t>(count)))
         fail();
      return bytes;
   }

   /// Big-endian numbers and texts, one after the other.
   struct Cursor {
      const std::string &bytes;
      std::size_t at;
      std::size_t number(std::size_t width)
      {
         if (at > bytes.size() || width > bytes.size() - at)
            fail();
         std::size_t value = 0;
         for (std::size_t i = 0; i < width; ++i)
            value = value << 8 | static_cast<unsigned char>(bytes[at++]);
         return value;
      }
      std::string text()
      {
         std::size_t length = number(1);
         if (length == 255)
            length = number(4);
         if (length > bytes.size() - at)
            fail();
         at += length;
         return bytes.substr(at - length, length);
      }
      StoredKey key()
      {
         StoredKey key;
         key.bytes = number(4);
         const std::size_t width = number(2) > 1000 ? 8 : 4;
         key.length = number(4);
         number(4);
         key.head = number(2);
         key.cycle = static_cast<int>(number(2));
         key.at = number(width);
         number(width);
         key.type = text();
         key.name = text();
         text();
         return key;
      }
   };

   /// The objects of the directory whose record begins there; the newest of each name.
   std::vector<StoredKey> keys_of(std::size_t at)
   {
      const std::string record = read(at, size_ - at < 50 ? size_ - at : 50);
      Cursor cursor{record, 0};
      const std::size_t width = cursor.number(2) > 1000 ? 8 : 4;
      cursor.number(8);
      const std::size_t bytes = cursor.number(4);
      cursor.number(4);
      cursor.number(2 * 4);
      cursor.at += 2 * width - 8;
      const std::string list = read(cursor.number(width), bytes);
      Cursor entries{list, 0};
      entries.key();
      std::vector<StoredKey> found;
      for (std::size_t count = entries.number(4); count > 0; --count) {
         const StoredKey key = entries.key();
         std::size_t i = 0;
         while (i < found.size() && found[i].name != key.name)
            ++i;
         if (i == found.size())
            found.push_back(key);
         else if (found[i].cycle < key.cycle)
            found[i] = key;
      }
      return found;
   }

   /// What the object consists of.
   std::string payload(const StoredKey &key)
   {
      if (key.head > key.bytes || key.length > largest)
         fail();
      std::string stored = read(key.at, key.bytes).substr(key.head);
      if (stored.size() == key.length)
         return stored;
      std::string whole(key.length, '\0');
      std::size_t from = 0, to = 0;
      // Blocks of nine bytes (algorithm, method, both lengths as little-endian numbers) and what they announce.
      while (to < whole.size()) {
         if (stored.size() - from < 9)
            fail();
         unsigned char *const block = reinterpret_cast<unsigned char *>(&stored[from]);
         const std::string algorithm = stored.substr(from, 2);
         int in = 9 + (block[3] | block[4] << 8 | block[5] << 16);
         int out = block[6] | block[7] << 8 | block[8] << 16, done = 0;
         const bool known = algorithm == "ZS" || algorithm == "ZL" || algorithm == "L4" || algorithm == "XZ";
         if (!known || static_cast<std::size_t>(in) > stored.size() - from ||
             static_cast<std::size_t>(out) > whole.size() - to)
            fail();
         R__unzip(&in, block, &out, reinterpret_cast<unsigned char *>(&whole[to]), &done);
         if (done <= 0 || done != out)
            fail();
         from += static_cast<std::size_t>(in);
         to += static_cast<std::size_t>(out);
      }
      return whole;
   }

public:
   static constexpr std::size_t largest = std::size_t{1} << 30;

   explicit StoredFile(const std::string &path)
   {
      // As bytes: nobody reads what the file says about itself.
      file_.reset(TFile::Open((path + (path.find('?') == std::string::npos ? "?" : "&") + "filetype=raw").c_str()));
      if (!file_ || file_->IsZombie())
         throw std::runtime_error("cannot be opened");
      size_ = static_cast<std::size_t>(file_->GetSize());
   }

   /// The objects in the file.
   std::vector<StoredKey> keys()
   {
      const std::string head = read(0, size_ < 64 ? size_ : 64);
      if (head.compare(0, 4, "root") != 0)
         throw std::runtime_error("is no ROOT file");
      Cursor cursor{head, 4};
      const std::size_t width = cursor.number(4) >= 1000000 ? 8 : 4;
      const std::size_t begin = cursor.number(4), end = cursor.number(width);
      if (end > size_)
         throw std::runtime_error("is truncated");
      cursor.number(width);
      cursor.number(8);
      return keys_of(begin + cursor.number(4));
   }
   /// The objects in a directory of it; none for what is no directory.
   std::vector<StoredKey> keys(const StoredKey &directory)
   {
      if (directory.type != "TDirectory" && directory.type != "TDirectoryFile")
         return {};
      return keys_of(directory.at + directory.head);
   }
   /// The bytes of the TObjString of that name: a version, a TObject (longer if something refers to it), and the
   /// text with its length.
   std::string string(const std::vector<StoredKey> &keys, const std::string &name)
   {
      for (const StoredKey &key : keys)
         if (key.name == name && key.type == "TObjString") {
            const std::string object = payload(key);
            Cursor cursor{object, 12};
            constexpr std::size_t is_referenced = 1 << 4;
            cursor.at += cursor.number(4) & is_referenced ? 2 : 0;
            const std::string text = cursor.text();
            if (cursor.at != object.size())
               fail();
            return text;
         }
      throw std::runtime_error("lacks its '" + name + "'");
   }
   /// The bytes of so many strings, one behind the other: `name`, `name_1`, ...
   std::string strings(const std::vector<StoredKey> &keys, const std::string &name, std::size_t count)
   {
      std::string bytes;
      for (std::size_t i = 0; i < count; ++i)
         bytes += string(keys, i ? name + "_" + std::to_string(i) : name);
      return bytes;
   }
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

   /// The weights in an RNTuple, at most so many bytes of them. By the interpreter, so that who has none links nothing
   /// for them.
   std::string ntuple(const std::string &directory, std::size_t most) const
   {
      const char *const code =
         "#ifndef SOFIE_READ_NTUPLE\n#define SOFIE_READ_NTUPLE\n#include <ROOT/RNTuple.hxx>\n"
         "#include <ROOT/RNTupleReader.hxx>\nnamespace sofie_ntuple {\n"
         "void read(const std::string &path, const std::string &name, std::size_t most, std::string &bytes) {\n"
         "   std::unique_ptr<TFile> file(TFile::Open(path.c_str()));\n"
         "   std::unique_ptr<ROOT::RNTuple> anchor(file ? file->Get<ROOT::RNTuple>(name.c_str()) : nullptr);\n"
         "   if (!anchor)\n      return;\n"
         "   const auto reader = ROOT::RNTupleReader::Open(*anchor);\n"
         "   auto view = reader->GetView<std::vector<unsigned char>>(\"bytes\");\n"
         "   for (auto entry : *reader) {\n"
         "      const std::vector<unsigned char> &part = view(entry);\n"
         "      if (part.size() > most - bytes.size())\n         return;\n"
         "      bytes.append(reinterpret_cast<const char *>(part.data()), part.size());\n   }\n}\n}\n#endif\n";
      TInterpreter &cling = *TInterpreter::Instance();
      TInterpreter::EErrorCode failed = TInterpreter::kNoError;
      Longptr_t address = 0;
      if (cling.Declare(code))
         address = cling.Calc("reinterpret_cast<long>(&sofie_ntuple::read)", &failed);
      if (!address || failed != TInterpreter::kNoError)
         throw std::runtime_error("its weights are an RNTuple, which this ROOT cannot read");
      std::string bytes;
      using Read = void (*)(const std::string &, const std::string &, std::size_t, std::string &);
      reinterpret_cast<Read>(address)(path_, directory + "/weights", most, bytes);
      return bytes;
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

   /// The keys of the model of that name, or of the only one; `place` learns which it is.
   static std::vector<StoredKey> chosen(StoredFile &file, const std::string &name, std::string &place,
                                        std::string &directory)
   {
      std::vector<std::vector<StoredKey>> models;
      std::vector<std::string> found;
      std::string listed;
      for (const StoredKey &key : file.keys()) {
         std::vector<StoredKey> inside = file.keys(key);
         if (!holds(inside, "model") || !(holds(inside, "weights") || holds(inside, "weights", "ROOT::RNTuple")))
            continue;
         models.push_back(std::move(inside));
         found.push_back(key.name);
         listed += (listed.empty() ? "" : ", ") + key.name;
      }
      for (std::size_t i = 0; i < found.size(); ++i)
         if (name.empty() ? found.size() == 1 : found[i] == encoded(name) || found[i] == name) {
            place += ": model '" + (name.empty() ? found[i] : name) + "'";
            directory = found[i];
            return models[i];
         }
      if (found.empty())
         throw std::runtime_error("holds no model that a macro can read");
      throw std::runtime_error((name.empty() ? "say which model" : "has no model '" + name + "'") + "; it has " +
                               listed);
   }

   static void require(bool is_sound)
   {
      if (!is_sound)
         throw std::runtime_error("the checksum is wrong: the model is damaged, or was changed by hand");
   }
   static void compare(const Json &about, const std::string &content)
   {
      require(about["bytes"].size() == content.size() && about["sha256"].text() == sofie::sha256(content));
   }

   void read(StoredFile &file, const std::vector<StoredKey> &keys, const std::string &directory,
             StoredModel &model) const
   {
      const std::string text = file.string(keys, "model");
      model.about = Json(text);
      const std::size_t written = model.about["format"].size();
      if (written != format)
         throw std::runtime_error("has the format " + std::to_string(written) + ", and these headers read " +
                                  std::to_string(format) + ": another version of sofie_rdf has written it");
      // The text ends in ,"sha256":"..."} of what stands before that.
      const std::size_t seal = 64 + 13;
      model.sha256 = model.about["sha256"].text();
      require(text.size() > seal && sofie::sha256(text.substr(0, text.size() - seal)) == model.sha256);
      const std::size_t size = model.about["weights"]["bytes"].size();
      model.weights = holds(keys, "weights") ? file.strings(keys, "weights", size ? (size - 1) / chunk + 1 : 1)
                                             : ntuple(directory, size);
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
         std::string directory;
         const std::vector<StoredKey> keys = chosen(file, name, model.place, directory);
         read(file, keys, directory, model);
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
   if (variable && std::string(variable).find(sha256) != std::string::npos)
      return true;
   const char *const home = std::getenv("HOME"), *const config = std::getenv("XDG_CONFIG_HOME");
   std::ifstream list((config && *config ? std::string(config) : std::string(home ? home : "") + "/.config") +
                      "/sofie_rdf/trusted");
   for (std::string line; std::getline(list, line);)
      if (line.compare(0, sha256.size(), sha256) == 0)
         return true;
   return false;
}

} // namespace sofie

#endif
