"""All that the engine may import of the science: what a scorer is, what a check finds, what settings are made
of, and what both sides need of errors, secrets, checksums and cached weights.

Imports no other part of this package.
"""
