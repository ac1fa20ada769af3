/// \file
/// The code of a model for the CPU on which it runs, compiled by ROOT's interpreter when it is
/// first needed: for headers that are included where nobody has said what the CPU can do.
#ifndef SOFIE_RDF_NATIVE_HXX
#define SOFIE_RDF_NATIVE_HXX

#include "sofie/session/linked.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TInterpreter.h>
#include <cstdlib>
#include <fstream>
#include <sstream>
#endif

namespace sofie {

/// What the CPU can do: an argument of __attribute__((target(...))), and bytes per register.
struct InstructionSet {
   const char *name;
   const char *target;
   int simd_bytes;
};

/// The best one of which /proc/cpuinfo has all flags, or the one that SOFIE_RDF_SIMD names: the
/// same choice as that of sofie_rdf.runtime.compile.interpreter.
inline InstructionSet instruction_set()
{
   static const InstructionSet known[] = {
      {"avx512", "avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl", 64},
      {"avx2", "avx,avx2,fma,f16c,bmi,bmi2", 32},
      {"generic", "", 16}};
   const char *const wanted = std::getenv("SOFIE_RDF_SIMD");
   std::string flags;
   std::ifstream file("/proc/cpuinfo");
   while (std::getline(file, flags) && flags.compare(0, 5, "flags") != 0) {
   }
   flags = " " + flags + " ";
   for (const InstructionSet &set : known) {
      std::istringstream needed(set.target);
      bool has = true;
      for (std::string flag; std::getline(needed, flag, ',');)
         has = has && flags.find(" " + (flag == "bmi" ? "bmi1" : flag) + " ") != std::string::npos;
      if (wanted && *wanted ? std::string(wanted) == set.name : has)
         return set;
   }
   throw std::runtime_error(std::string("SOFIE_RDF_SIMD=") + wanted + " is no instruction set");
}

/// The entry points of the model in this header, whose code the interpreter compiles now. `space`
/// is its namespace.
inline const Entries &native_entries(const std::string &space, const std::string &header)
{
   const InstructionSet set = instruction_set();
   const std::string here = __FILE__;
   const std::string folder = here.substr(0, here.size() - std::string("sofie/rdf/native.hxx").size());
   TInterpreter &cling = *TInterpreter::Instance();
   if (here != header) // It is alone, with everything in it.
      cling.AddIncludePath(folder.c_str());
   std::string text = "#if !defined(SOFIE_CHOSEN) && !defined(SOFIE_SIMD_HXX)\n#define SOFIE_CHOSEN\n"
                      "#undef SOFIE_TARGET_HXX\n#undef SOFIE_BEGIN\n#undef SOFIE_END\n#undef SOFIE_SIMD_BYTES\n";
   text += "#define SOFIE_SIMD_BYTES " + std::to_string(set.simd_bytes) + "\n";
   if (*set.target)
      text += std::string("#define SOFIE_TARGET \"") + set.target + "\"\n";
   text += "#endif\n#pragma push_macro(\"SOFIE_LINKED\")\n#undef SOFIE_LINKED\n#define SOFIE_ENTRIES\n"
           "#define SOFIE_NATIVE\n#undef " +
           space + "_HXX\n#include \"" + header + "\"\n";
   text += "#undef SOFIE_NATIVE\n#undef SOFIE_ENTRIES\n#pragma pop_macro(\"SOFIE_LINKED\")\n";
   const std::string entries = space + "::native::entries()";
   TInterpreter::EErrorCode failed = TInterpreter::kNoError;
   Longptr_t address = 0;
   if (cling.Declare(text.c_str()))
      address = cling.Calc(("reinterpret_cast<long>(" + entries + ")").c_str(), &failed);
   if (!address || failed != TInterpreter::kNoError)
      throw std::runtime_error("ROOT's interpreter refused the code of " + space + "; its message says why");
   return *reinterpret_cast<const Entries *>(address);
}

} // namespace sofie

#endif
