"""SOFIE's own words for what sofie_rdf does, in Python and for the macros of cling/sofie/rdf."""
