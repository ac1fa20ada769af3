/// \file
/// TMVA::Experimental::SOFIE: RModel and its parsers, by the Python package sofie_rdf.
#ifndef SOFIE_RDF_WORDS_MODEL_HXX
#define SOFIE_RDF_WORDS_MODEL_HXX

// It says SOFIE_RDF_WORDS where ROOT has no RModel.
#include "TMVA/RModel.hxx"

#ifdef SOFIE_RDF_WORDS

#include "sofie/rdf/command.hxx"

#if !defined(SOFIE_CLING) || defined(__ROOTCLING__)
#include <TDirectory.h>
#include <TFile.h>
#include <TKey.h>
#include <TObjString.h>
#include <iostream>
#endif

namespace TMVA {
namespace Experimental {
namespace SOFIE {

/// Element types, numbered as ONNX numbers them.
enum class ETensorType {
   UNDEFINED = 0,
   FLOAT = 1,
   UINT8 = 2,
   INT8 = 3,
   UINT16 = 4,
   INT16 = 5,
   INT32 = 6,
   INT64 = 7,
   STRING = 8,
   BOOL = 9,
   FLOAT16 = 10,
   DOUBLE = 11,
   UINT32 = 12,
   UINT64 = 13,
   COMPLEX64 = 14,
   COMPLEX28 = 15,
   BFLOAT16 = 16
};

/// The C++ name of each element type, in their order.
inline const std::vector<std::string> &type_names()
{
   static const std::vector<std::string> names = {
      "undefined", "float",   "uint8_t", "int8_t",   "uint16_t", "int16_t",   "int32_t", "int64_t", "string",
      "bool",      "float16", "double",  "uint32_t", "uint64_t", "complex64", "complex", "bfloat16"};
   return names;
}

inline std::string ConvertTypeToString(ETensorType type)
{
   const auto number = static_cast<std::size_t>(type);
   return number < type_names().size() ? type_names()[number] : type_names()[0];
}

/// The element type of that C++ name, with or without std::; also of int, unsigned int and of ONNX's float32.
inline ETensorType ConvertStringToType(std::string type)
{
   if (type.compare(0, 5, "std::") == 0)
      type.erase(0, 5);
   type = type == "float32" || type == "Float" ? "float"
          : type == "int"                      ? "int32_t"
          : type == "int64"                    ? "int64_t"
                                               : type;
   for (std::size_t i = 1; i < type_names().size(); ++i)
      if (type_names()[i] == type)
         return static_cast<ETensorType>(i);
   return ETensorType::UNDEFINED;
}

inline std::string ConvertShapeToString(const std::vector<std::size_t> &shape)
{
   std::string text = "{ ";
   for (std::size_t i = 0; i < shape.size(); ++i)
      text += (i ? " , " : "") + std::to_string(shape[i]);
   return text + " }";
}

/// The number of elements.
inline std::size_t ConvertShapeToLength(const std::vector<std::size_t> &shape)
{
   std::size_t length = 1;
   for (const std::size_t size : shape)
      length *= size;
   return length;
}

enum class Options {
   kDefault = 0x0,
   kNoSession = 0x1,
   kNoWeightFile = 0x2,
   kRootBinaryWeightFile = 0x4,
   kGNN = 0x8,
   kGNNComponent = 0x10
};

inline int operator|(Options left, Options right)
{
   return static_cast<int>(left) | static_cast<int>(right);
}
inline int operator|(int left, Options right)
{
   return left | static_cast<int>(right);
}

enum class OptimizationLevel { kBasic = 0x0, kExtended = 0x1 };

/// A model that a parser has read. What it knows was said when it was read; code comes from the package again.
class RModel {
   std::vector<std::string> source_;
   std::vector<std::string> generation_;
   sofie::Answer about_;
   std::string code_;
   int batch_ = -1;

   std::vector<std::string> arguments(const std::vector<std::string> &more) const
   {
      if (source_.empty())
         throw std::runtime_error("RModel: there is no model in it; a parser gives one");
      std::vector<std::string> all = source_;
      all.insert(all.end(), more.begin(), more.end());
      return all;
   }
   std::vector<std::string> generated(const std::vector<std::string> &more) const
   {
      if (generation_.empty())
         throw std::runtime_error(GetName() + ": there is no code yet. Call Generate() first");
      std::vector<std::string> all = arguments(generation_);
      all.insert(all.end(), more.begin(), more.end());
      return all;
   }
   void print(const std::string &function) const { std::cout << sofie::value_of(about_, function) << std::flush; }

   /// The letters, digits and underscores of a name; other signs become `other`.
   static std::string cleaned(const std::string &name, const std::string &other)
   {
      std::string text;
      for (const char c : name) {
         const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
         text += plain ? std::string(1, c) : other;
      }
      return text;
   }
   /// Where the description of a tensor begins, which may be named as SOFIE does: without signs. The end if there is
   /// none.
   sofie::Answer::const_iterator tensor(const std::string &name) const
   {
      for (const int way : {0, 1, 2})
         for (auto at = about_.begin(); at != about_.end(); ++at) {
            if (at->first != "tensor")
               continue;
            const std::string known = way == 0 ? at->second : cleaned(at->second, way == 1 ? "" : "_");
            if (known == name)
               return at;
         }
      return about_.end();
   }
   std::string property(const std::string &name, const std::string &key) const
   {
      auto at = tensor(name);
      if (at == about_.end())
         throw std::runtime_error(GetName() + ": has no tensor " + name);
      while (at->first != key)
         ++at;
      return at->second;
   }
   bool is_kind(const std::string &name, const std::string &kind) const
   {
      return tensor(name) != about_.end() && property(name, "kind") == kind;
   }
   std::vector<std::string> all(const std::string &key) const
   {
      std::vector<std::string> found;
      for (const auto &entry : about_)
         if (entry.first == key)
            found.push_back(entry.second);
      return found;
   }

public:
   RModel() = default;
   /// The model of a file; `how` says more to the package.
   explicit RModel(const std::string &file, const std::vector<std::string> &how)
   {
      std::string path = file;
      if (!gSystem->IsAbsoluteFileName(path.c_str()))
         path = std::string(gSystem->WorkingDirectory()) + "/" + path;
      source_ = how;
      source_.push_back("file=" + path);
      about_ = sofie::ask("parse", source_);
      source_.push_back("sha=" + sofie::value_of(about_, "sha"));
   }

   void Generate(int options, int batchSize = -1, long pos = 0, bool verbose = false)
   {
      const std::vector<std::string> wanted = {"options=" + std::to_string(options),
                                               "size=" + std::to_string(batchSize > 0 ? batchSize : batch_),
                                               "pos=" + std::to_string(pos)};
      code_ = sofie::value_of(sofie::ask("generate", arguments(wanted)), "code");
      generation_ = wanted;
      if (verbose)
         PrintSummary();
   }
   void Generate(Options options = Options::kDefault, int batchSize = -1, long pos = 0, bool verbose = false)
   {
      Generate(static_cast<int>(options), batchSize, pos, verbose);
   }
   /// Writes the header, by default NAME.hxx, and beside it the weights.
   void OutputGenerated(std::string filename = "", bool append = false) const
   {
      sofie::ask("output", generated({"header=" + filename, "append=" + std::to_string(append)}));
   }
   void PrintGenerated() const { std::cout << code_ << std::flush; }
   const std::string &ReturnGenerated() const { return code_; }

   std::string GetName() const { return sofie::value_of(about_, "name"); }
   std::vector<std::string> GetInputTensorNames() const { return all("input"); }
   std::vector<std::string> GetOutputTensorNames() const { return all("output"); }
   bool CheckIfTensorAlreadyExist(const std::string &name) const { return tensor(name) != about_.end(); }
   bool IsInitializedTensor(const std::string &name) const { return is_kind(name, "constant"); }
   bool IsReadyInputTensor(const std::string &name) const { return is_kind(name, "input"); }
   bool IsDynamicTensor(const std::string &name) const
   {
      return tensor(name) != about_.end() && property(name, "shape") == "?";
   }
   std::vector<std::size_t> GetTensorShape(const std::string &name) const
   {
      std::istringstream listed(property(name, "shape"));
      if (listed.str() == "?")
         throw std::runtime_error(GetName() + ": tensor " + name + " has sizes that are not known");
      std::vector<std::size_t> shape;
      for (std::string size; std::getline(listed, size, ',');)
         shape.push_back(std::stoul(size));
      return shape;
   }
   ETensorType GetTensorType(const std::string &name) const
   {
      return static_cast<ETensorType>(std::stoi(property(name, "type")));
   }
   /// The elements of an initialized tensor.
   template <class T>
   std::vector<T> GetTensorData(const std::string &name) const
   {
      const std::string element = ConvertTypeToString(GetTensorType(name));
      if (!IsInitializedTensor(name) || (std::is_same<T, float>::value    ? "float"
                                         : std::is_same<T, double>::value ? "double"
                                         : std::is_integral<T>::value     ? element
                                                                          : "") != element)
         throw std::runtime_error(GetName() + ": " + name + " is no initialized tensor of that type");
      const std::string bytes =
         sofie::value_of(sofie::ask("data", arguments({"tensor=" + name, "element=" + element})), "data");
      if (bytes.size() != ConvertShapeToLength(GetTensorShape(name)) * sizeof(T))
         throw std::runtime_error(GetName() + ": the elements of " + name + " are " + element);
      std::vector<T> data(bytes.size() / sizeof(T));
      __builtin_memcpy(data.data(), bytes.data(), bytes.size());
      return data;
   }

   void PrintSummary() const { print("PrintSummary"); }
   void PrintRequiredInputTensors() const { print("PrintRequiredInputTensors"); }
   void PrintInitializedTensors() const { print("PrintInitializedTensors"); }
   void PrintIntermediateTensors() const { print("PrintIntermediateTensors"); }
   void PrintDynamicTensors() const { print("PrintDynamicTensors"); }
   void PrintOutputTensors() const { print("PrintOutputTensors"); }
   void HeadInitializedTensors(const std::string &name, int most = 50) const
   {
      std::cout << sofie::value_of(sofie::ask("head", arguments({"tensor=" + name, "most=" + std::to_string(most)})),
                                   "text")
                << std::flush;
   }

   /// Stores the model in the file that is open for writing: ROOT's current directory.
   int Write(const std::string &name = "", int = 0, int = 0) const
   {
      TFile *const file = gDirectory ? gDirectory->GetFile() : nullptr;
      if (!file || !file->IsWritable())
         throw std::runtime_error(GetName() + ": no file is open for writing");
      // The package writes to a file of its own, from where the model's directory is copied.
      const sofie::TemporaryFolder folder({"model.root"});
      const std::string path = folder.file("model.root"), stored = name.empty() ? GetName() : name;
      sofie::ask("write", arguments({"root=" + path, "as=" + stored}));
      const TDirectory::TContext context(file);
      const std::unique_ptr<TFile> source(TFile::Open(path.c_str(), "READ"));
      if (source)
         copy(*source, *file);
      return source ? 1 : 0;
   }
   /// The model of that name in a .root file.
   static RModel Read(const std::string &file, const std::string &name)
   {
      return RModel(file, {"kind=root", "name=" + name});
   }

   /// Nothing has to be done before Generate; a batch that is given is fixed.
   void Initialize(int batchSize = -1, bool verbose = false)
   {
      batch_ = batchSize;
      if (verbose)
         PrintSummary();
   }
   /// Accepted, and without meaning: what can be made faster always is.
   void SetOptimizationLevel(OptimizationLevel) {}
   void SetUseVDT(bool) {}

private:
   /// The one directory with objects that `from` holds, into `to`, in whose place it comes.
   static void copy(TDirectory &from, TDirectory &to);
};

/// The strings of a directory into another one, for models that the package has written.
inline void RModel::copy(TDirectory &from, TDirectory &to)
{
   for (TObject *const entry : *from.GetListOfKeys()) {
      const std::string name = entry->GetName();
      TObject *const object = from.Get(name.c_str()); // Its file owns a directory.
      if (auto *const directory = dynamic_cast<TDirectory *>(object)) {
         to.rmdir(name.c_str());
         copy(*directory, *to.mkdir(name.c_str()));
      } else if (object) {
         to.WriteTObject(object, name.c_str());
         delete object;
      }
   }
   to.SaveSelf(true);
}

/// Reads ONNX files.
class RModelParser_ONNX {
public:
   RModel Parse(const std::string &filename, bool verbose = false)
   {
      RModel model(filename, {"kind=onnx"});
      if (verbose)
         model.PrintSummary();
      return model;
   }
   /// Whether the model can run; else every reason is printed.
   bool CheckModel(const std::string &filename, bool verbose = false)
   {
      const sofie::Answer problems = sofie::ask("check", {"file=" + filename});
      for (const auto &problem : problems)
         std::cout << problem.second << '\n';
      if (verbose && problems.empty())
         std::cout << filename << ": everything in it is supported\n";
      return problems.empty();
   }
   std::vector<std::string> GetRegisteredOperators()
   {
      std::vector<std::string> names;
      for (const auto &entry : sofie::ask("operators", {}))
         names.push_back(entry.second);
      return names;
   }
   bool IsRegisteredOperator(const std::string &name)
   {
      for (const std::string &known : GetRegisteredOperators())
         if (known == name)
            return true;
      return false;
   }
};

/// A shape as an argument for the package.
inline std::string shape_argument(const std::vector<std::size_t> &shape)
{
   std::string text = "shape=";
   for (const std::size_t size : shape)
      text += std::to_string(size) + ",";
   return text;
}

namespace PyKeras {
/// The model in a .keras or .h5 file; the batch is that of a batch that the file leaves open.
inline RModel Parse(const std::string &filename, int batch_size = 1)
{
   return RModel(filename, {"kind=keras", "batch=" + std::to_string(batch_size > 0 ? batch_size : 1)});
}
} // namespace PyKeras

namespace PyTorch {
/// The model in a TorchScript or torch.export file, for inputs of these shapes and types.
inline RModel Parse(const std::string &filename, const std::vector<std::vector<std::size_t>> &shapes,
                    const std::vector<ETensorType> &types = {})
{
   std::vector<std::string> how = {"kind=torch"};
   for (const auto &shape : shapes)
      how.push_back(shape_argument(shape));
   for (const ETensorType type : types)
      how.push_back("type=" + std::to_string(static_cast<int>(type)));
   return RModel(filename, how);
}
} // namespace PyTorch

} // namespace SOFIE
} // namespace Experimental
} // namespace TMVA

/// file->Get<RModel>("name"): a new object, which belongs to the caller.
template <>
inline TMVA::Experimental::SOFIE::RModel *TDirectory::Get<TMVA::Experimental::SOFIE::RModel>(const char *name)
{
   using TMVA::Experimental::SOFIE::RModel;
   if (!GetFile())
      throw std::runtime_error(std::string(GetName()) + ": is in no file");
   if (GetFile()->IsWritable()) { // Others shall see what has been written so far.
      GetFile()->SaveSelf(true);
      GetFile()->WriteFree();
      GetFile()->WriteHeader();
      GetFile()->Flush();
   }
   return new RModel(RModel::Read(GetFile()->GetName(), name));
}

#endif // SOFIE_RDF_WORDS

#endif
