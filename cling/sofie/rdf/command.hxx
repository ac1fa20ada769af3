/// \file
/// Macros ask the Python package sofie_rdf: a process of its own, arguments, and an answer in a file.
#ifndef SOFIE_RDF_COMMAND_HXX
#define SOFIE_RDF_COMMAND_HXX

#include "sofie/target.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TROOT.h>
#include <TString.h>
#include <TSystem.h>
#include <cstdlib>
#include <fstream>
#include <sstream>
#endif

namespace sofie {

/// A word of a command that the shell takes as it is.
inline std::string quoted(const std::string &word)
{
   if (word.find('\0') != std::string::npos)
      throw std::runtime_error("a name with a zero byte in it cannot be handed to sofie_rdf");
   std::string text = "'";
   for (const char c : word)
      text += c == '\'' ? std::string("'\\''") : std::string(1, c);
   return text + "'";
}

/// The text of a file; none where it cannot be read.
inline std::string content_of(const std::string &path)
{
   std::ifstream file(path, std::ios::binary);
   std::ostringstream text;
   text << file.rdbuf();
   return text.str();
}

/// The folder that holds this package, from which these headers come: `FOLDER/cling/sofie/rdf/...` in a checkout,
/// `FOLDER/sofie_rdf/cling/...` where it is installed.
inline std::string package_folder()
{
   std::string folder = gSystem->DirName(gSystem->DirName(gSystem->DirName(gSystem->DirName(__FILE__))));
   if (gSystem->BaseName(folder.c_str()) == std::string("sofie_rdf"))
      folder = gSystem->DirName(folder.c_str());
   return folder;
}

/// Whether a folder is one of Python's installed packages, above which their Python is. Above others is whatever
/// Python the system has.
inline bool is_installed(const std::string &folder)
{
   const std::string path = folder + "/";
   return path.find("/site-packages/") != std::string::npos || path.find("/dist-packages/") != std::string::npos;
}

/// The Python that has sofie_rdf: SOFIE_RDF_PYTHON, or the one in whose site-packages these headers or ROOT are, or
/// the one beside ROOT, as conda has it, or the first python3 in PATH, where the current folder decides nothing.
inline std::string python()
{
   const char *const chosen = std::getenv("SOFIE_RDF_PYTHON");
   if (chosen && *chosen)
      return chosen;
   for (const std::string &start : {package_folder(), std::string(TROOT::GetRootSys().Data())}) {
      std::string folder = start;
      const int levels = is_installed(start) ? 5 : 1;
      for (int i = 0; i < levels && folder.size() > 1; ++i, folder = gSystem->DirName(folder.c_str())) {
         const std::string candidate = folder + "/bin/python3";
         if (!gSystem->AccessPathName(candidate.c_str(), kExecutePermission))
            return candidate;
      }
   }
   std::istringstream folders(std::getenv("PATH") ? std::getenv("PATH") : "/usr/bin:/bin");
   for (std::string folder; std::getline(folders, folder, ':');) {
      const std::string candidate = folder + "/python3";
      if (!folder.empty() && folder[0] == '/' && !gSystem->AccessPathName(candidate.c_str(), kExecutePermission))
         return candidate;
   }
   throw std::runtime_error("sofie_rdf: there is no python3 in PATH: set SOFIE_RDF_PYTHON to a Python that has it");
}

/// A file that nobody else has, removed in the end.
class TemporaryFile {
   TString path_ = "sofie_rdf-";

public:
   TemporaryFile()
   {
      std::FILE *const file = gSystem->TempFileName(path_);
      if (!file)
         throw std::runtime_error("no temporary file can be made");
      std::fclose(file);
   }
   TemporaryFile(const TemporaryFile &) = delete;
   TemporaryFile &operator=(const TemporaryFile &) = delete;
   ~TemporaryFile() { std::remove(path_.Data()); }
   std::string path() const { return path_.Data(); }
};

/// A folder that nobody else may write to, removed in the end with these files in it.
class TemporaryFolder {
   const TemporaryFile unique_;
   std::vector<std::string> files_;

public:
   explicit TemporaryFolder(const std::vector<std::string> &files) : files_(files)
   {
      if (gSystem->mkdir(path().c_str()))
         throw std::runtime_error(path() + " cannot be made");
   }
   TemporaryFolder(const TemporaryFolder &) = delete;
   TemporaryFolder &operator=(const TemporaryFolder &) = delete;
   ~TemporaryFolder()
   {
      for (const std::string &name : files_)
         std::remove(file(name).c_str());
      gSystem->Unlink(path().c_str());
   }
   std::string path() const { return unique_.path() + ".d"; }
   std::string file(const std::string &name) const { return path() + "/" + name; }
};

/// Keys and values.
using Answer = std::vector<std::pair<std::string, std::string>>;

/// The first value of a key; "" if there is none.
inline std::string value_of(const Answer &answer, const std::string &key)
{
   for (const auto &entry : answer)
      if (entry.first == key)
         return entry.second;
   return "";
}

inline Answer parsed_answer(const std::string &text)
{
   std::vector<std::string> parts;
   for (std::size_t at = 0; at < text.size();) {
      const std::size_t space = text.find(' ', at);
      const std::size_t size = std::stoul(text.substr(at, space - at));
      parts.push_back(text.substr(space + 1, size));
      at = space + 1 + size;
   }
   Answer answer;
   for (std::size_t i = 0; i + 1 < parts.size(); i += 2)
      answer.emplace_back(parts[i], parts[i + 1]);
   return answer;
}

/// What Python does for a question. It is told where the package is, which is looked for last, as in a checkout the
/// folder is that of many files. `python -m` would look in the current folder first.
inline const char *python_program()
{
   return "import os, site, sys; "
          "sys.path += [p for p in os.environ.get('PYTHONPATH', '').split(os.pathsep) if os.path.isabs(p) "
          "and os.path.realpath(p) != os.path.realpath(os.curdir)]; "
          "sys.path += [site.getusersitepackages(), sys.argv.pop(1)]; "
          "from sofie_rdf.compat.command import main; sys.exit(main(sys.argv[1:]))";
}

/// Asks `sofie_rdf.compat.command`; its error text becomes an exception.
inline Answer ask(const std::string &action, const std::vector<std::string> &arguments)
{
   const TemporaryFile answer, messages;
   const std::string folder = package_folder(), interpreter = python();
   std::string command = quoted(interpreter) + " -I -c " + quoted(python_program()) + " " + quoted(folder) + " " +
                         quoted(answer.path()) + " " + quoted(action);
   for (const std::string &argument : arguments)
      command += " " + quoted(argument);
   const int status = std::system((command + " 2> " + quoted(messages.path())).c_str());
   if (status != 0) {
      std::string why = content_of(messages.path());
      const bool absent = status / 256 == 126 || status / 256 == 127; // What a shell says of a command.
      if (absent || why.empty() || why.find("No module named") != std::string::npos)
         why += interpreter + " does not have sofie_rdf: set SOFIE_RDF_PYTHON to a Python that has\n";
      throw std::runtime_error("sofie_rdf: " + why.substr(0, why.size() - 1));
   }
   return parsed_answer(content_of(answer.path()));
}

} // namespace sofie

#endif
