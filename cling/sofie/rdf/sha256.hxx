/// \file
/// SHA-256 (FIPS 180-4), by which a stored model is known.
#ifndef SOFIE_RDF_SHA256_HXX
#define SOFIE_RDF_SHA256_HXX

#include "sofie/target.hxx"

namespace sofie {

/// The hash of the bytes that it is given, in any number of parts.
class Sha256 {
   std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                              0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
   unsigned char block_[64] = {};
   std::size_t size_ = 0;

   static std::uint32_t turned(std::uint32_t x, int by) { return (x >> by) | (x << (32 - by)); }

   void add_block(const unsigned char *bytes)
   {
      static const std::uint32_t constants[64] = {
         0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
         0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
         0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
         0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
         0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
         0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
         0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
         0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
      std::uint32_t w[64];
      for (int i = 0; i < 16; ++i)
         w[i] = std::uint32_t{bytes[4 * i]} << 24 | std::uint32_t{bytes[4 * i + 1]} << 16 |
                std::uint32_t{bytes[4 * i + 2]} << 8 | std::uint32_t{bytes[4 * i + 3]};
      for (int i = 16; i < 64; ++i) {
         const std::uint32_t a = w[i - 15], b = w[i - 2];
         w[i] = w[i - 16] + (turned(a, 7) ^ turned(a, 18) ^ (a >> 3)) + w[i - 7] +
                (turned(b, 17) ^ turned(b, 19) ^ (b >> 10));
      }
      std::uint32_t a = state_[0], b = state_[1], c = state_[2], d = state_[3];
      std::uint32_t e = state_[4], f = state_[5], g = state_[6], h = state_[7];
      for (int i = 0; i < 64; ++i) {
         const std::uint32_t one =
            h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + constants[i] + w[i];
         const std::uint32_t two = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
         h = g;
         g = f;
         f = e;
         e = d + one;
         d = c;
         c = b;
         b = a;
         a = one + two;
      }
      const std::uint32_t sums[8] = {a, b, c, d, e, f, g, h};
      for (int i = 0; i < 8; ++i)
         state_[i] += sums[i];
   }

public:
   void add(const void *data, std::size_t count)
   {
      const unsigned char *bytes = static_cast<const unsigned char *>(data);
      std::size_t filled = size_ % 64;
      size_ += count;
      if (filled) {
         const std::size_t more = count < 64 - filled ? count : 64 - filled;
         __builtin_memcpy(block_ + filled, bytes, more);
         bytes += more;
         count -= more;
         if (filled + more < 64)
            return;
         add_block(block_);
      }
      for (; count >= 64; count -= 64, bytes += 64)
         add_block(bytes);
      __builtin_memcpy(block_, bytes, count);
   }

   /// The hash in hexadecimal digits; nothing can be added after that.
   std::string digits()
   {
      const std::uint64_t bits = 8 * static_cast<std::uint64_t>(size_);
      unsigned char end[72] = {0x80};
      const std::size_t zeros = (119 - size_ % 64) % 64;
      for (std::size_t i = 0; i < 8; ++i)
         end[1 + zeros + i] = static_cast<unsigned char>(bits >> (56 - 8 * i));
      add(end, zeros + 9);
      std::string text;
      for (const std::uint32_t word : state_)
         for (int shift = 28; shift >= 0; shift -= 4)
            text += "0123456789abcdef"[word >> shift & 15];
      return text;
   }
};

/// The SHA-256 of these bytes, in hexadecimal digits.
inline std::string sha256(const void *data, std::size_t count)
{
   Sha256 hash;
   hash.add(data, count);
   return hash.digits();
}
inline std::string sha256(const std::string &text)
{
   return sha256(text.data(), text.size());
}

} // namespace sofie

#endif
