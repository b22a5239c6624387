"""Textual inversion of many images at once (paper Section 3.1)."""
