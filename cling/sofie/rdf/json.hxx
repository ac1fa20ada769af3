/// \file
/// The JSON (RFC 8259) that describes a stored model.
#ifndef SOFIE_RDF_JSON_HXX
#define SOFIE_RDF_JSON_HXX

#include "sofie/target.hxx"

namespace sofie {

/// A value: a text, a whole number, a list or an object. Others (fractions, true, null) are there, but say nothing.
class Json {
   enum class Kind { other, text, number, list, object };
   Kind kind_ = Kind::other;
   std::string text_;
   std::int64_t number_ = 0;
   std::vector<Json> items_;
   std::vector<std::string> keys_;

   /// Where the text is being read.
   struct Place {
      const char *at, *end;
      int depth;
   };

   [[noreturn]] static void fail() { throw std::runtime_error("its description is no JSON, or lacks something"); }

   static void skip_blanks(Place &place)
   {
      while (place.at < place.end && (*place.at == ' ' || *place.at == '\n' || *place.at == '\t' || *place.at == '\r'))
         ++place.at;
   }
   static char next(Place &place)
   {
      if (place.at >= place.end)
         fail();
      return *place.at++;
   }
   static bool take(Place &place, char wanted)
   {
      skip_blanks(place);
      if (place.at < place.end && *place.at == wanted) {
         ++place.at;
         return true;
      }
      return false;
   }

   static unsigned hexadecimal(Place &place)
   {
      unsigned value = 0;
      for (int i = 0; i < 4; ++i) {
         const char c = next(place);
         const int digit = c >= '0' && c <= '9'   ? c - '0'
                           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                  : -1;
         if (digit < 0)
            fail();
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
   static std::string read_text(Place &place)
   {
      std::string text;
      for (char c = next(place); c != '"'; c = next(place)) {
         if (c != '\\') {
            text += c;
            continue;
         }
         c = next(place);
         if (c == 'u') {
            unsigned code = hexadecimal(place);
            if (code >= 0xd800 && code < 0xdc00 && place.end - place.at >= 6 && place.at[0] == '\\' &&
                place.at[1] == 'u') {
               place.at += 2;
               code = 0x10000 + ((code & 0x3ff) << 10) + (hexadecimal(place) & 0x3ff);
            }
            append(text, code);
         } else {
            text += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
         }
      }
      return text;
   }
   void read_number(Place &place)
   {
      const bool negative = *place.at == '-';
      place.at += negative;
      int digits = 0;
      for (; place.at < place.end && *place.at >= '0' && *place.at <= '9'; ++place.at, ++digits)
         number_ = digits < 18 ? 10 * number_ + (*place.at - '0') : number_;
      kind_ = digits && digits <= 18 ? Kind::number : Kind::other;
      number_ = negative ? -number_ : number_;
      while (place.at < place.end && std::string("0123456789+-.eE").find(*place.at) != std::string::npos) {
         kind_ = Kind::other; // A fraction.
         ++place.at;
      }
   }

   explicit Json(Place &place)
   {
      if (--place.depth < 0)
         fail();
      skip_blanks(place);
      const char first = place.at < place.end ? *place.at : '\0';
      if (take(place, '{')) {
         kind_ = Kind::object;
         for (bool more = !take(place, '}'); more; more = !take(place, '}')) {
            if (!keys_.empty() && !take(place, ','))
               fail();
            if (!take(place, '"'))
               fail();
            keys_.push_back(read_text(place));
            if (!take(place, ':'))
               fail();
            items_.push_back(Json(place));
         }
      } else if (take(place, '[')) {
         kind_ = Kind::list;
         for (bool more = !take(place, ']'); more; more = !take(place, ']')) {
            if (!items_.empty() && !take(place, ','))
               fail();
            items_.push_back(Json(place));
         }
      } else if (take(place, '"')) {
         kind_ = Kind::text;
         text_ = read_text(place);
      } else if (first == '-' || (first >= '0' && first <= '9')) {
         read_number(place);
      } else if (first >= 'a' && first <= 'z') {
         while (place.at < place.end && *place.at >= 'a' && *place.at <= 'z')
            ++place.at;
      } else {
         fail();
      }
      ++place.depth;
   }

public:
   Json() = default;
   /// std::runtime_error for what is no JSON.
   explicit Json(const std::string &text)
   {
      Place place{text.data(), text.data() + text.size(), 60};
      *this = Json(place);
      skip_blanks(place);
      if (place.at != place.end)
         fail();
   }

   /// What stands under a key; std::runtime_error if nothing does.
   const Json &operator[](const std::string &key) const
   {
      for (std::size_t i = 0; i < keys_.size(); ++i)
         if (keys_[i] == key)
            return items_[i];
      fail();
   }
   const Json &operator[](std::size_t index) const
   {
      if (index >= items_.size())
         fail();
      return items_[index];
   }
   bool has(const std::string &key) const
   {
      for (const std::string &known : keys_)
         if (known == key)
            return true;
      return false;
   }
   /// The items of a list or an object.
   const std::vector<Json> &items() const { return items_; }
   const std::vector<std::string> &keys() const { return keys_; }
   const std::string &text() const
   {
      if (kind_ != Kind::text)
         fail();
      return text_;
   }
   /// A number that is no size is none.
   std::size_t size() const
   {
      if (kind_ != Kind::number || number_ < 0)
         fail();
      return static_cast<std::size_t>(number_);
   }
};

} // namespace sofie

#endif
