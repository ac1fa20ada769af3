"""PyTorch: files of strangers, which are checked and written anew; and torch's own exporters."""
