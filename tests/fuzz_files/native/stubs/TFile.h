// A file of ROOT whose bytes are in memory: all that sofie/rdf/ asks of one.
#ifndef FUZZ_TFILE
#define FUZZ_TFILE
#include <cstring>
#include <string>

using Int_t = int;
using Long64_t = long long;
using Longptr_t = long;

class TFile {
   std::string bytes_;

public:
   static std::string &given()
   {
      static std::string bytes;
      return bytes;
   }
   static TFile *Open(const char *)
   {
      TFile *made = new TFile;
      made->bytes_ = given();
      return made;
   }
   bool IsZombie() const { return false; }
   Long64_t GetSize() const { return static_cast<Long64_t>(bytes_.size()); }
   bool ReadBuffer(char *to, Long64_t at, Int_t count)
   {
      if (at < 0 || count < 0 || at + count > GetSize())
         return true;
      std::memcpy(to, bytes_.data() + at, static_cast<std::size_t>(count));
      return false;
   }
};
#endif
