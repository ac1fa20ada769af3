"""WHICH kernel computes a node: a table for each family, and what its kernels do at a time."""
