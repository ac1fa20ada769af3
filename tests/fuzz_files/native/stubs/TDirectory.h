#ifndef FUZZ_TDIRECTORY
#define FUZZ_TDIRECTORY
struct TDirectory {
   struct TContext {
      TContext() {}
      ~TContext() {}
   };
};
#endif
