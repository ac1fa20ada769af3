/// \file
/// ROOT's own header of this name, or SOFIE's words by sofie_rdf where ROOT has none.
#if __has_include_next("TMVA/RModel.hxx")
#include_next "TMVA/RModel.hxx"
#else
#ifndef SOFIE_RDF_WORDS
#define SOFIE_RDF_WORDS
#endif
#include "sofie/rdf/words/model.hxx"
#endif
