/// \file
/// Weights that are in the header: the bytes of a weight file as text.
#ifndef SOFIE_SESSION_EMBEDDED_HXX
#define SOFIE_SESSION_EMBEDDED_HXX

#include "sofie/target.hxx"

namespace sofie {

/// The number that a digit of base64 stands for; -1 for any other character.
inline int from_digit(char c)
{
   return c >= 'A' && c <= 'Z'   ? c - 'A'
          : c >= 'a' && c <= 'z' ? c - 'a' + 26
          : c >= '0' && c <= '9' ? c - '0' + 52
          : c == '+'             ? 62
          : c == '/'             ? 63
                                 : -1;
}

/// The bytes that blocks of base64 stand for, each of whole groups of four digits; the last is null. Of a group that is
/// cut off, or has anything else among its digits, there are fewer: the checksum of the file tells.
inline std::vector<char> from_base64(const char *const *blocks)
{
   std::vector<char> bytes;
   for (; *blocks; ++blocks)
      for (const char *at = *blocks; *at;) {
         unsigned long group = 0;
         int digits = 0;
         for (int i = 0; i < 4; ++i) {
            const int digit = *at ? from_digit(*at++) : -1;
            digits += digit >= 0;
            group = group << 6 | static_cast<unsigned long>(digit < 0 ? 0 : digit);
         }
         for (int i = 1; i < digits; ++i)
            bytes.push_back(static_cast<char>(group >> (24 - 8 * i) & 255));
      }
   return bytes;
}

} // namespace sofie

#endif
