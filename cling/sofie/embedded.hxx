/// \file
/// Weights that are in the header: the bytes of a weight file as text.
#ifndef SOFIE_EMBEDDED_HXX
#define SOFIE_EMBEDDED_HXX

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

/// The bytes that blocks of base64 stand for, each of whole groups of four digits; the last is null.
inline std::vector<char> from_base64(const char *const *blocks)
{
   std::vector<char> bytes;
   for (; *blocks; ++blocks)
      for (const char *at = *blocks; *at; at += 4) {
         unsigned long group = 0;
         for (int i = 0; i < 4; ++i) {
            const int digit = from_digit(at[i]);
            group = group << 6 | static_cast<unsigned long>(digit < 0 ? 0 : digit);
         }
         bytes.push_back(static_cast<char>(group >> 16 & 255));
         if (at[2] != '=')
            bytes.push_back(static_cast<char>(group >> 8 & 255));
         if (at[3] != '=')
            bytes.push_back(static_cast<char>(group & 255));
      }
   return bytes;
}

} // namespace sofie

#endif
