"""A network as columns of an RDataFrame, on this computer or on others."""
