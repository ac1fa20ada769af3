// An interpreter that knows nothing: what only ROOT reads is refused.
#ifndef FUZZ_TINTERPRETER
#define FUZZ_TINTERPRETER
struct TInterpreter {
   enum EErrorCode { kNoError, kOther };
   static TInterpreter *Instance()
   {
      static TInterpreter made;
      return &made;
   }
   bool Declare(const char *) { return false; }
   long Calc(const char *, EErrorCode *) { return 0; }
};
#endif
