"""Models that come and go in threads, for long: ``python -m tests.soak``.

The numbers are those of the first call, to the last bit, and memory does not grow.
"""
