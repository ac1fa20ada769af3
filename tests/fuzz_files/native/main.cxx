// Reads files from standard input, each behind its length, as the code in cling/ does, and says what came of it.
#include "sofie/rdf/stored.hxx"
#include "sofie/session/embedded.hxx"
#include "sofie/session/weights.hxx"

#include <TFile.h>
#include <iostream>

bool was_new();

// All that a description says, as text: two readers of it must agree.
static std::string said(const sofie::Json &value)
{
   std::string text;
   if (!value.keys().empty()) {
      for (std::size_t i = 0; i < value.keys().size(); ++i)
         text += sofie::sha256(value.keys()[i]).substr(0, 8) + said(value.items()[i]);
      return "{" + text + "}";
   }
   if (!value.items().empty()) {
      for (const sofie::Json &item : value.items())
         text += said(item);
      return "[" + text + "]";
   }
   try {
      return "t" + sofie::sha256(value.text()).substr(0, 8);
   } catch (const std::runtime_error &) {
   }
   try {
      return "n" + std::to_string(value.size());
   } catch (const std::runtime_error &) {
   }
   return "o";
}

static std::string reader(const std::string &bytes)
{
   TFile::given() = bytes;
   const sofie::StoredModel model = sofie::StoredModels("given").model("");
   return model.sha256 + " " + sofie::sha256(model.header) + " " + sofie::sha256(model.weights) + " " +
          sofie::sha256(said(model.about));
}

static std::string tensors(const sofie::WeightFile &file)
{
   using Dozen = sofie::View<const float, 12>;
   using Three = sofie::View<const float, 3>;
   sofie::Constant<Dozen> first(file.tensor<Dozen>(0));
   sofie::Constant<Three> second(file.tensor<Three>(1));
   std::string held(reinterpret_cast<const char *>(first.data()), 48);
   return sofie::sha256(held.append(reinterpret_cast<const char *>(second.data()), 12));
}

static std::string weights(const std::string &bytes)
{
   // Memory of that size, so that nothing is read behind it unseen.
   const std::vector<char> exactly(bytes.begin(), bytes.end());
   return tensors(sofie::WeightFile(exactly));
}

static std::string embedded(const std::string &bytes)
{
   std::vector<std::unique_ptr<char[]>> blocks;
   for (std::size_t at = 0; at <= bytes.size();) {
      const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
      const std::string line(bytes, at, std::min(end - at, bytes.find('\0', at) - at));
      blocks.emplace_back(new char[line.size() + 1]);
      std::memcpy(blocks.back().get(), line.c_str(), line.size() + 1);
      at = end + 1;
   }
   std::vector<const char *> given;
   for (const auto &block : blocks)
      given.push_back(block.get());
   given.push_back(nullptr);
   return tensors(sofie::WeightFile(sofie::from_base64(given.data())));
}

int main(int, char **arguments)
{
   const std::string mode = arguments[1];
   for (std::uint32_t size; std::fread(&size, sizeof size, 1, stdin) == 1;) {
      std::string bytes(size, '\0'), answer;
      if (size && std::fread(&bytes[0], 1, size, stdin) != size)
         return 2;
      was_new();
      try {
         answer = "read " + (mode == "reader" ? reader(bytes) : mode == "weights" ? weights(bytes) : embedded(bytes));
      } catch (const std::runtime_error &error) {
         answer = std::string("refused ") + error.what();
      }
      for (char &c : answer)
         c = c == '\n' ? ' ' : c;
      std::cout << (was_new() ? "new " : "old ") << answer << std::endl;
   }
}
