"""Derivatives of graphs, as nodes of a graph: the walk backwards, and what it is asked for."""
