"""Graph Nets: a stored model everywhere; all modules where TensorFlow is."""
