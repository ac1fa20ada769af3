"""Files that somebody damaged, or made to do harm: each is read as it was meant, or refused.

``python -m tests.fuzz_files`` makes them (``make fuzz-files``); docs/fuzzing.md says how.
"""
