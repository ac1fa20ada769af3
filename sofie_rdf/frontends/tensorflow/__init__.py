"""TensorFlow's graphs, and the Graph Nets that are made of them."""
