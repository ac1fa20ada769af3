"""What is written to .root files beside the graph: by ROOT, and for macros."""
