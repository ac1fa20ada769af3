"""From a program to a compiled one: Cling or a compiler of the system, and its first result."""
