"""Files that are kept for later processes, and who may write them."""
