#ifndef FUZZ_TERROR
#define FUZZ_TERROR
inline int gErrorIgnoreLevel = 0;
constexpr int kFatal = 6000;
inline void Warning(const char *, const char *, ...) {}
#endif
