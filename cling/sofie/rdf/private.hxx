/// \file
/// Files of the user's that decide what runs, as in sofie_rdf/runtime/cache/private.py.
#ifndef SOFIE_RDF_PRIVATE_HXX
#define SOFIE_RDF_PRIVATE_HXX

#include "sofie/target.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TError.h>
#include <TSystem.h>
#include <cstdlib>
#endif

namespace sofie {

/// The folder that a variable of the XDG names, or that `folder` of the user's home; "" for who has none.
inline std::string folder_below(const char *variable, const std::string &folder)
{
   const char *const chosen = std::getenv(variable), *home = std::getenv("HOME");
   if (chosen && *chosen == '/')
      return chosen;
   if (!home || *home != '/')
      home = gSystem->HomeDirectory();
   return home && *home == '/' ? std::string(home) + "/" + folder : "";
}

/// Why others may decide what is at this absolute path; "" where they may not.
inline std::string trouble_of(const std::string &path)
{
   for (std::string part = path;; part = part.substr(0, part.rfind('/'))) {
      FileStat_t status;
      if (gSystem->GetPathInfo(part.empty() ? "/" : part.c_str(), status))
         return part + " cannot be looked at";
      const bool own_group = status.fGid == status.fUid, sticky = status.fMode & 01000;
      if (part == path) {
         if (status.fUid != gSystem->GetEffectiveUid() && status.fUid != 0)
            return "it belongs to another user, of number " + std::to_string(status.fUid);
         if (status.fMode & (own_group ? 02 : 022))
            return "others may write to it (look whether they have, then chmod go-w)";
      } else if (!sticky && status.fMode & (own_group || status.fGid == gSystem->GetEffectiveGid() ? 02 : 022)) {
         return "others may write to " + (part.empty() ? "/" : part) + " (chmod go-w, or chmod +t)";
      }
      if (part.empty())
         return "";
   }
}

/// Whether nobody else may have written this file, and may put another one in its place; else there is a warning, once.
inline bool is_safe(const std::string &file, const std::string &what)
{
   char *const found = ::realpath(file.c_str(), nullptr);
   if (!found)
      return false; // It is not there.
   const std::string real = found;
   std::free(found);
   std::string reason;
   for (const std::string &way : {file, real, file.substr(0, file.rfind('/')), real.substr(0, real.rfind('/'))})
      if (reason.empty())
         reason = trouble_of(way);
   static std::string warned;
   if (!reason.empty() && reason != warned)
      Warning("sofie_rdf", "%s %s is not used: %s", what.c_str(), file.c_str(), reason.c_str());
   warned = reason.empty() ? warned : reason;
   return reason.empty();
}

} // namespace sofie

#endif
