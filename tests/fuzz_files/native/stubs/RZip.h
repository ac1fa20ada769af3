// The decompression of ROOT's libCore, which is opened when it is first needed.
#ifndef FUZZ_RZIP
#define FUZZ_RZIP
#include <cstdlib>
#include <dlfcn.h>

inline void R__unzip(int *in, unsigned char *from, int *out, unsigned char *to, int *done)
{
   using Unzip = void (*)(int *, unsigned char *, int *, unsigned char *, int *);
   static const Unzip unzip = [] {
      const char *const path = std::getenv("FUZZ_LIBCORE");
      void *const library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
      return library ? reinterpret_cast<Unzip>(dlsym(library, "R__unzip")) : nullptr;
   }();
   *done = 0;
   if (unzip)
      unzip(in, from, out, to, done);
}
#endif
