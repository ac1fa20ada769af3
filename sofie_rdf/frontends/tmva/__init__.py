"""TMVA's weight files."""
