/// \file
/// The keys and strings of a ROOT file, and RNTuples of bytes in it, read byte by byte with every number checked.
#ifndef SOFIE_RDF_STORED_FILE_HXX
#define SOFIE_RDF_STORED_FILE_HXX

#include "sofie/target.hxx"

// Not in the modules of ROOT.
#include <RZip.h>
#include <sys/stat.h>

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TFile.h>
#include <cstdlib>
#include <map>
#include <set>
#endif

namespace sofie {

/// An object in a ROOT file: its key.
struct StoredKey {
   std::string type, name;
   int cycle = 0;
   std::size_t at = 0, bytes = 0, head = 0, length = 0;
};

/// Numbers, texts and frames, one after the other.
struct StoredCursor {
   const std::string &bytes;
   std::size_t at, end;

   StoredCursor(const std::string &text, std::size_t begin = 0) : bytes(text), at(begin), end(text.size())
   {
      if (at > end)
         fail();
   }

   [[noreturn]] static void fail() { throw std::runtime_error("is damaged"); }

   /// Steps over so many bytes; where they begin.
   std::size_t skip(std::size_t count)
   {
      if (count > end - at)
         fail();
      at += count;
      return at - count;
   }
   /// An unsigned number, most significant byte first.
   std::size_t number(std::size_t width)
   {
      std::size_t value = 0;
      for (std::size_t i = skip(width); i < at; ++i)
         value = value << 8 | static_cast<unsigned char>(bytes[i]);
      return value;
   }
   /// One of an RNTuple, least significant byte first.
   std::size_t little(std::size_t width)
   {
      std::size_t value = 0;
      const std::size_t begin = skip(width);
      for (std::size_t i = at; i > begin; --i)
         value = value << 8 | static_cast<unsigned char>(bytes[i - 1]);
      return value;
   }
   std::string text()
   {
      const std::size_t length = number(1);
      const std::size_t count = length == 255 ? number(4) : length;
      return bytes.substr(skip(count), count);
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
   /// A frame of an RNTuple, which is stepped over; `items` learns how many things it lists.
   StoredCursor frame(std::size_t &items)
   {
      const std::int64_t size = static_cast<std::int64_t>(little(8));
      const std::size_t whole = size < 0 ? ~static_cast<std::size_t>(size) + 1 : static_cast<std::size_t>(size);
      if (whole < 8)
         fail();
      StoredCursor body(bytes, skip(whole - 8));
      body.end = at;
      items = size < 0 ? body.little(4) : 0;
      return body;
   }
   StoredCursor frame()
   {
      std::size_t items;
      return frame(items);
   }
};

/// A file of which nothing is believed: ROOT's own classes trust what a file says about its sizes, and a damaged one
/// crashes them. Only reading (local and remote) and decompression are ROOT's. sofie_rdf.ir.rootkeys is the same
/// reader in Python, and takes and refuses the same files.
class StoredFile {
   std::unique_ptr<TFile> file_;
   std::size_t size_ = 0, listed_ = 0, left_ = 0;

   [[noreturn]] static void fail() { StoredCursor::fail(); }

   /// Memory that a file of so many bytes may take: what SOFIE_RDF_LIMITS says (bytes=8G), or 1 GiB and 64 times that.
   static std::size_t allowed(std::size_t size)
   {
      const char *const variable = std::getenv("SOFIE_RDF_LIMITS");
      const std::string given = variable ? "," + std::string(variable) : "";
      const std::size_t at = given.find(",bytes=");
      if (at == std::string::npos)
         return largest + 64 * size;
      char *unit = nullptr;
      const double number = std::strtod(given.c_str() + at + 7, &unit);
      const std::string units = "kmgt";
      const std::size_t power = units.find(static_cast<char>(*unit | 0x20));
      double bytes = number;
      for (std::size_t i = 0; power != std::string::npos && i <= power; ++i)
         bytes *= 1024;
      return bytes > 0 && bytes < 1e18 ? static_cast<std::size_t>(bytes) : largest + 64 * size;
   }

   /// The objects of the directory whose record begins there; the newest of each name.
   std::vector<StoredKey> keys_of(std::size_t at)
   {
      const std::string record = read(at, at < size_ && size_ - at < 50 ? size_ - at : 50);
      StoredCursor cursor(record);
      const std::size_t width = cursor.number(2) > 1000 ? 8 : 4;
      cursor.skip(8);
      const std::size_t bytes = cursor.number(4);
      cursor.skip(4 + 2 * width);
      // The lists of a sound file do not overlap.
      listed_ += bytes;
      if (listed_ > size_)
         fail();
      const std::string list = read(cursor.number(width), bytes);
      StoredCursor entries(list);
      entries.key();
      std::vector<StoredKey> found;
      std::map<std::string, std::size_t> places;
      std::set<std::pair<std::string, int>> seen;
      for (std::size_t count = entries.number(4); count > 0; --count) {
         const StoredKey key = entries.key();
         if (!seen.emplace(key.name, key.cycle).second)
            throw std::runtime_error("has two objects '" + key.name + "' of the same cycle");
         const auto place = places.emplace(key.name, found.size());
         if (place.second)
            found.push_back(key);
         else if (found[place.first->second].cycle < key.cycle)
            found[place.first->second] = key;
      }
      return found;
   }

   /// Where the content of an object begins.
   std::size_t inside(const StoredKey &key) const
   {
      if (key.at > size_)
         fail();
      return key.at + key.head;
   }

   /// A list of an RNTuple.
   std::string envelope(std::size_t at, std::size_t stored, std::size_t length)
   {
      return unpacked(read(at, stored), length);
   }
   /// The content of one of that kind, behind what stands at its beginning.
   static StoredCursor content(const std::string &envelope, std::size_t kind)
   {
      constexpr std::size_t footer = 2;
      StoredCursor cursor(envelope);
      if ((cursor.little(8) & 0xffff) != kind)
         fail();
      while (kind == footer && cursor.little(8) >> 63) {
         // Flags, of which the last has no such bit.
      }
      cursor.skip(8);
      cursor.frame();
      return cursor;
   }
   /// Where something is; `size` learns how many bytes it has there.
   static std::size_t locator(StoredCursor &cursor, std::size_t &size)
   {
      size = cursor.little(4);
      if (size >> 31)
         fail();
      return cursor.little(8);
   }
   /// The bytes of the pages that a column lists.
   void append_pages(StoredCursor &column, std::size_t count, std::size_t most, std::string &bytes)
   {
      for (; count > 0; --count) {
         const std::int32_t number = static_cast<std::int32_t>(column.little(4));
         const std::size_t elements = static_cast<std::size_t>(number < 0 ? -std::int64_t{number} : number);
         std::size_t size = 0;
         const std::size_t at = locator(column, size);
         if (elements == 0 || elements > most - bytes.size())
            fail();
         bytes += unpacked(read(at, size), elements);
      }
   }

public:
   static constexpr std::size_t largest = std::size_t{1} << 30;

   explicit StoredFile(const std::string &path)
   {
      // A pipe would be waited for, and a device may have no end.
      struct stat status;
      if (!::stat(path.c_str(), &status) && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
         throw std::runtime_error("is no file, but a pipe or a device");
      // As bytes: nobody reads what the file says about itself.
      file_.reset(TFile::Open((path + (path.find('?') == std::string::npos ? "?" : "&") + "filetype=raw").c_str()));
      if (!file_ || file_->IsZombie())
         throw std::runtime_error("cannot be opened");
      size_ = static_cast<std::size_t>(file_->GetSize());
      left_ = allowed(size_);
   }

   /// Counts what is about to be made; std::runtime_error for more than a file of this size may take.
   void spend(std::size_t bytes)
   {
      if (bytes > left_)
         throw std::runtime_error("takes more memory than a file of its size may take. If you trust it, allow more in "
                                  "the environment: SOFIE_RDF_LIMITS=bytes=" +
                                  std::to_string(4 * (allowed(size_) / largest + 1)) + "G");
      left_ -= bytes;
   }
   std::size_t left() const { return left_; }

   /// Part of the file.
   std::string read(std::size_t at, std::size_t count)
   {
      if (at > size_ || count > size_ - at || count > largest)
         fail();
      spend(count);
      std::string bytes(count, '\0');
      if (count && file_->ReadBuffer(&bytes[0], static_cast<Long64_t>(at), static_cast<Int_t>(count)))
         fail();
      return bytes;
   }
   /// So many bytes, of blocks that ROOT has compressed, or as they are.
   std::string unpacked(std::string stored, std::size_t length)
   {
      if (stored.size() == length)
         return stored;
      if (length > largest)
         fail();
      spend(length);
      std::string whole(length, '\0');
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
         if (!known || out == 0 || static_cast<std::size_t>(in) > stored.size() - from ||
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

   /// The objects in the file.
   std::vector<StoredKey> keys()
   {
      const std::string head = read(0, size_ < 64 ? size_ : 64);
      if (head.compare(0, 4, "root") != 0)
         throw std::runtime_error("is no ROOT file");
      StoredCursor cursor(head, 4);
      const std::size_t width = cursor.number(4) >= 1000000 ? 8 : 4;
      const std::size_t begin = cursor.number(4), end = cursor.number(width);
      if (begin < 64 || begin >= end)
         throw std::runtime_error("has a damaged header");
      if (end > size_)
         throw std::runtime_error("is truncated");
      cursor.skip(width + 8);
      return keys_of(begin + cursor.number(4));
   }
   /// The objects in a directory of it; none for what is no directory.
   std::vector<StoredKey> keys(const StoredKey &directory)
   {
      if (directory.type != "TDirectory" && directory.type != "TDirectoryFile")
         return {};
      return keys_of(inside(directory));
   }
   /// What the object consists of.
   std::string payload(const StoredKey &key)
   {
      if (key.head > key.bytes)
         fail();
      return unpacked(read(inside(key), key.bytes - key.head), key.length);
   }
   /// The bytes of the TObjString of that name: a version, a TObject (longer if something refers to it), and the
   /// text with its length.
   std::string string(const std::vector<StoredKey> &keys, const std::string &name)
   {
      for (const StoredKey &key : keys)
         if (key.name == name && key.type == "TObjString") {
            const std::string object = payload(key);
            StoredCursor cursor(object, 12);
            constexpr std::size_t is_referenced = 1 << 4;
            cursor.skip(cursor.number(4) & is_referenced ? 2 : 0);
            std::string text = cursor.text();
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
   /// The bytes of an RNTuple whose only field is a vector of bytes, at most so many. Such a field has two columns:
   /// where each vector ends, and the bytes of all of them, so what is wanted are the pages of the second one.
   std::string ntuple(const StoredKey &key, std::size_t most)
   {
      const std::string object = payload(key);
      StoredCursor anchor(object, 6);
      anchor.skip(8 + 3 * 8);
      const std::size_t at = anchor.number(8), stored = anchor.number(8), length = anchor.number(8);
      const std::string footer = envelope(at, stored, length);
      std::size_t group_count = 0, cluster_count = 0, columns = 0, page_count = 0, size = 0;
      StoredCursor groups = content(footer, 2).frame(group_count);
      std::string bytes;
      for (; group_count > 0; --group_count) {
         StoredCursor group = groups.frame();
         group.skip(8 + 8 + 4);
         const std::size_t pages_length = group.little(8), pages_at = locator(group, size);
         const std::string pages = envelope(pages_at, size, pages_length);
         StoredCursor clusters = content(pages, 3).frame(cluster_count);
         for (; cluster_count > 0; --cluster_count) {
            StoredCursor cluster = clusters.frame(columns);
            if (columns != 2)
               fail();
            cluster.frame();
            StoredCursor column = cluster.frame(page_count);
            append_pages(column, page_count, most, bytes);
         }
      }
      return bytes;
   }
};

} // namespace sofie

#endif
