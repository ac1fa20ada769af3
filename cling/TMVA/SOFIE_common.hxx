/// \file
/// ROOT's own header of this name, or SOFIE's words by sofie_rdf where ROOT has none.
#if __has_include_next("TMVA/SOFIE_common.hxx")
#include_next "TMVA/SOFIE_common.hxx"
#else
#include "sofie/rdf/words/graphs.hxx"
#endif
