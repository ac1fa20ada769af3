"""Graph -> a better Graph: simplify, fuse, in the order of `pipeline`; and the plan of memory."""
