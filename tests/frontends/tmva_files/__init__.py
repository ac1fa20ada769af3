"""TMVA's weight files, beside TMVA's documented formulas: ROOT's wheel has no TMVA."""
