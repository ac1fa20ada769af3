/// \file
/// The JSON that describes a stored model, in the form of which there is one text for each value: texts, whole numbers
/// of at most 18 digits, lists, and objects with sorted keys, without blanks, in ASCII. sofie_rdf.ir.canonical reads
/// the same and no more: Python decides what a macro may run, so a macro must not find anything else in a text.
#ifndef SOFIE_RDF_JSON_HXX
#define SOFIE_RDF_JSON_HXX

#include "sofie/target.hxx"

namespace sofie {

/// A value: a text, a whole number, a list or an object.
class Json {
   enum class Kind { none, text, number, list, object };
   Kind kind_ = Kind::none;
   std::string text_;
   std::uint64_t number_ = 0;
   std::vector<Json> items_;
   std::vector<std::string> keys_;

   static constexpr int deepest = 16;

   /// Where the text is being read, how many levels are below it, and how many values there may be.
   struct Place {
      const char *at, *end;
      int depth;
      std::size_t left;
   };

   [[noreturn]] static void fail()
   {
      throw std::runtime_error("its description is not as sofie_rdf writes it, or was changed by hand");
   }

   static char next(Place &place)
   {
      if (place.at >= place.end)
         fail();
      return *place.at++;
   }
   static bool take(Place &place, char wanted)
   {
      const bool found = place.at < place.end && *place.at == wanted;
      place.at += found;
      return found;
   }
   static void require(bool is_right)
   {
      if (!is_right)
         fail();
   }

   static unsigned hexadecimal(Place &place)
   {
      unsigned value = 0;
      for (int i = 0; i < 4; ++i) {
         const char c = next(place);
         const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
         require(digit >= 0);
         value = 16 * value + static_cast<unsigned>(digit);
      }
      return value;
   }
   static char tail(unsigned bits) { return static_cast<char>(0x80 | (bits & 0x3f)); }
   /// The character of this number as UTF-8.
   static void append(std::string &text, unsigned code)
   {
      if (code < 0x80)
         text += static_cast<char>(code);
      else if (code < 0x800)
         (text += static_cast<char>(0xc0 | code >> 6)) += tail(code);
      else if (code < 0x10000)
         ((text += static_cast<char>(0xe0 | code >> 12)) += tail(code >> 6)) += tail(code);
      else
         (((text += static_cast<char>(0xf0 | code >> 18)) += tail(code >> 12)) += tail(code >> 6)) += tail(code);
   }
   /// The character whose number follows; two numbers are one character beyond 65535.
   static unsigned character(Place &place)
   {
      const unsigned code = hexadecimal(place);
      // What ASCII has is not written as a number, but for those that have no other form.
      require(code >= 0x7f ||
              (code < 0x20 && code != '\n' && code != '\t' && code != '\r' && code != '\b' && code != '\f'));
      const bool is_half = code >= 0xd800 && code < 0xdc00;
      if (!is_half || place.end - place.at < 6 || place.at[0] != '\\' || place.at[1] != 'u')
         return code;
      Place other = place;
      other.at += 2;
      const unsigned second = hexadecimal(other);
      if (second < 0xdc00 || second >= 0xe000)
         return code;
      place.at = other.at;
      return 0x10000 + ((code & 0x3ff) << 10) + (second & 0x3ff);
   }
   static std::string read_text(Place &place)
   {
      std::string text;
      for (char c = next(place); c != '"'; c = next(place)) {
         require(c >= ' ' && c <= '~');
         if (c != '\\') {
            text += c;
            continue;
         }
         c = next(place);
         const char known[] = "\"\\ntrbf", meant[] = "\"\\\n\t\r\b\f";
         int i = 0;
         while (i < 7 && known[i] != c)
            ++i;
         if (i < 7)
            text += meant[i];
         else if (c == 'u')
            append(text, character(place));
         else
            fail();
      }
      return text;
   }
   static std::uint64_t read_number(Place &place)
   {
      const char *const begin = place.at;
      std::uint64_t number = 0;
      for (; place.at < place.end && *place.at >= '0' && *place.at <= '9'; ++place.at) {
         require(place.at - begin < 18);
         number = 10 * number + static_cast<std::uint64_t>(*place.at - '0');
      }
      require(place.at > begin && (*begin != '0' || place.at == begin + 1));
      return number;
   }

   explicit Json(Place &place)
   {
      require(--place.depth >= 0 && place.left-- > 0);
      if (take(place, '{')) {
         kind_ = Kind::object;
         for (bool more = !take(place, '}'); more; more = !take(place, '}')) {
            require((keys_.empty() || take(place, ',')) && take(place, '"'));
            std::string key = read_text(place);
            // Sorted, so none is there twice.
            require((keys_.empty() || keys_.back() < key) && take(place, ':'));
            keys_.push_back(std::move(key));
            items_.push_back(Json(place));
         }
      } else if (take(place, '[')) {
         kind_ = Kind::list;
         for (bool more = !take(place, ']'); more; more = !take(place, ']')) {
            require(items_.empty() || take(place, ','));
            items_.push_back(Json(place));
         }
      } else if (take(place, '"')) {
         kind_ = Kind::text;
         text_ = read_text(place);
      } else {
         kind_ = Kind::number;
         number_ = read_number(place);
      }
      ++place.depth;
   }

public:
   Json() = default;
   /// A document of at most so many values; std::runtime_error for any text that is not the only one of a document.
   explicit Json(const std::string &text, std::size_t most = std::size_t{1} << 22)
   {
      Place place{text.data(), text.data() + text.size(), deepest, most};
      *this = Json(place);
      require(place.at == place.end && kind_ == Kind::object);
   }

   /// What stands under a key; std::runtime_error if nothing does.
   const Json &operator[](const std::string &key) const
   {
      for (std::size_t i = 0; i < keys_.size(); ++i)
         if (keys_[i] == key)
            return items_[i];
      throw std::runtime_error("its description lacks '" + key + "'");
   }
   bool has(const std::string &key) const
   {
      for (const std::string &known : keys_)
         if (known == key)
            return true;
      return false;
   }
   const Json &operator[](std::size_t index) const
   {
      if (index >= items_.size())
         throw std::runtime_error("its description lacks something");
      return items_[index];
   }
   /// The items of a list or an object.
   const std::vector<Json> &items() const { return items_; }
   const std::vector<std::string> &keys() const { return keys_; }
   bool is_text() const { return kind_ == Kind::text; }
   bool is_number() const { return kind_ == Kind::number; }
   const std::string &text() const
   {
      if (kind_ != Kind::text)
         throw std::runtime_error("its description lacks a text");
      return text_;
   }
   std::size_t size() const
   {
      if (kind_ != Kind::number)
         throw std::runtime_error("its description lacks a number");
      return number_;
   }
};

} // namespace sofie

#endif
