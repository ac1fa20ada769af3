// What the list of trusted models is looked at with; nothing here asks for it.
#ifndef FUZZ_TSYSTEM
#define FUZZ_TSYSTEM
struct FileStat_t {
   int fUid = 0, fGid = 0, fMode = 0;
};
struct TSystem {
   const char *HomeDirectory() const { return ""; }
   int GetPathInfo(const char *, FileStat_t &) const { return 1; }
   int GetEffectiveUid() const { return 0; }
   int GetEffectiveGid() const { return 0; }
};
inline TSystem *gSystem = nullptr;
#endif
