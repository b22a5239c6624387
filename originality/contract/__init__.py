"""The part of the science that the engine may import.

It holds the scorer protocol, findings of checks, the base of settings, and what both sides need for errors,
secrets, checksums, logs and cached weights.

It imports no other part of this package.
"""
