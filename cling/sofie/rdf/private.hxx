/// \file
/// Files of the user's that decide what runs, as in sofie_rdf/runtime/cache/private.py.
#ifndef SOFIE_RDF_PRIVATE_HXX
#define SOFIE_RDF_PRIVATE_HXX

#include "sofie/target.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TError.h>
#include <TSystem.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>
#endif
#include <sys/stat.h>
#include <unistd.h>

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

/// What stands on the way to a file: a folder, a link, or the file.
struct VisitedPart {
   std::string path;
   bool is_link, is_sticky;
   bool is_others; ///< It belongs neither to this user nor to the administrator.
   bool is_open;   ///< Others may write to it. The group counts as the user where its number is the user's.
   unsigned owner;
};

/// A path without links, or as it is where nothing is there.
inline std::string resolved_path(const std::string &path)
{
   char *const found = ::realpath(path.c_str(), nullptr);
   const std::string resolved = found ? found : path;
   std::free(found);
   return resolved;
}

/// What the system goes through on its way to an absolute path, links included. `reason` says why it cannot be looked
/// at.
inline std::vector<VisitedPart> visited_parts(const std::string &path, std::string &reason)
{
   constexpr int most_links = 40; // As many as Linux follows on one way.
   std::vector<VisitedPart> found;
   std::string here, left = path;
   for (int links = 0; reason.empty();) {
      struct stat status;
      if (::lstat(here.empty() ? "/" : here.c_str(), &status)) {
         if (errno != ENOENT && errno != ENOTDIR)
            reason = "it cannot be looked at: " + std::string(std::strerror(errno));
         break;
      }
      const unsigned open = status.st_gid == status.st_uid ? 02 : 022;
      found.push_back({here.empty() ? "/" : here, S_ISLNK(status.st_mode), (status.st_mode & 01000) != 0,
                       status.st_uid != ::geteuid() && status.st_uid != 0, (status.st_mode & open) != 0,
                       static_cast<unsigned>(status.st_uid)});
      if (found.back().is_link) {
         char target[4096];
         const ssize_t size = ::readlink(here.c_str(), target, sizeof target);
         if (size < 0 || ++links > most_links) {
            reason = "it cannot be looked at: too many links";
            break;
         }
         left = std::string(target, static_cast<std::size_t>(size)) + "/" + left;
         here = target[0] == '/' ? "" : here.substr(0, here.rfind('/'));
      }
      bool is_name = false;
      for (std::string name; !is_name && !left.empty();) {
         name = left.substr(0, left.find('/'));
         left.erase(0, name.size() + 1);
         is_name = !name.empty() && name != "." && name != "..";
         if (is_name)
            here += "/" + name;
         else if (name == "..")
            here.erase(here.empty() ? 0 : here.rfind('/'));
      }
      if (!is_name)
         break;
   }
   return found;
}

/// Why others may decide what is at this absolute path, as far as it exists; "" where they may not.
///
/// Each folder and each link on the way counts, but not what is above the user's home: who may replace that decides
/// about all that the user runs.
inline std::string trouble_of(const std::string &path, const std::string &home = gSystem->HomeDirectory())
{
   bool passes_home = false;
   std::string reason;
   const std::vector<VisitedPart> visited = visited_parts(path, reason);
   const std::string real = resolved_path(home), end = resolved_path(path);
   for (const VisitedPart &part : visited)
      passes_home = passes_home || part.path == real;
   for (const VisitedPart &part : visited) {
      if (!reason.empty())
         break;
      const std::string folder = part.path == "/" ? part.path : part.path + "/";
      const bool is_last = part.path == end;
      if (passes_home && real.size() > folder.size() && real.compare(0, folder.size(), folder) == 0)
         continue;
      if (part.is_others)
         reason = (is_last ? "it" : part.path) + " belongs to another user, of number " + std::to_string(part.owner);
      else if (part.is_link || !part.is_open)
         continue;
      else if (is_last)
         reason = "others may write to it (look whether they have, then chmod go-w)";
      else if (!part.is_sticky)
         reason = "others may write to " + part.path + " (chmod go-w, or chmod +t)";
   }
   return reason;
}

/// Whether nobody else may have written this file, and may put another one in its place; else there is a warning, once.
inline bool is_safe(const std::string &file, const std::string &what)
{
   if (::access(file.c_str(), F_OK))
      return false; // It is not there.
   std::string reason = trouble_of(file.substr(0, file.rfind('/')));
   if (reason.empty())
      reason = trouble_of(file);
   static std::string warned;
   if (!reason.empty() && reason != warned)
      Warning("sofie_rdf", "%s %s is not used: %s", what.c_str(), file.c_str(), reason.c_str());
   warned = reason.empty() ? warned : reason;
   return reason.empty();
}

} // namespace sofie

#endif
