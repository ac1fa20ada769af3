/// \file
/// ROOT's own header of this name, or SOFIE's words by sofie_rdf where ROOT has none.
#if __has_include_next("TMVA/SOFIEHelpers.h")
#include_next "TMVA/SOFIEHelpers.h"
#else
#include "sofie/rdf/words/functor.hxx"
#endif
