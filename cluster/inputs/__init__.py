"""The inputs of a run.

They are listed once and frozen, then read, decoded, and identified by a digest of their bytes.
"""
