/// Models of a .root file in a C++ macro: no Python, no header of the model, no file of weights.
///
/// The file holds the models' code, and the reader has ROOT's interpreter compile it for the CPU that it
/// runs on. The file is written once, by 08_root_files.py or with
///
///     sofie-rdf convert data/higgs.onnx models.root --name network
///
/// Then, where only sofie_rdf's headers are installed:
///
///     export ROOT_INCLUDE_PATH="$(sofie-rdf --include-dir)"
///     root -l -b -q 'tutorials/08_root_files.C("models.root")'
///
/// Code in a file is compiled only if you trust it: what you have stored yourself, and what you have
/// looked through with `sofie-rdf trust models.root`. (ROOT looks for a function of the file's name with _ before it.)
#include "sofie/rdf/RSofieReader.hxx"

#include <ROOT/RDataFrame.hxx>
#include <TROOT.h>

#include <iostream>
#include <string>
#include <vector>

void _08_root_files(const std::string &file = "models.root")
{
   RSofieReader network(file, "network"), forest(file, "forest"), forest_2(file, "forest_2");

   // One event; several, one after the other, give as many scores.
   std::cout << "score of one event: " << network.Compute({1, 1, 1, 1, 1, 1, 1})[0] << "\n";

   // Each becomes a column, in all slots and on all threads, and the mean of the three another one.
   ROOT::EnableImplicitMT();
   const std::string events = std::string(TROOT::GetTutorialDir()) + "/machine_learning/data/Higgs_data.root";
   const std::vector<std::string> features{"m_jj", "m_jjj", "m_lv", "m_jlv", "m_bb", "m_wbb", "m_wwbb"};
   for (const char *tree : {"sig_tree", "bkg_tree"}) {
      ROOT::RDF::RNode df = ROOT::RDataFrame(tree, events);
      df = network.Define(df, "network", features);
      df = forest.Define(df, "forest", features);
      df = forest_2.Define(df, "forest_2", features);
      auto scored = df.Define("score", "(network + forest + forest_2) / 3");
      std::cout << tree << ": mean score " << scored.Mean("score").GetValue() << "\n";
   }
}
