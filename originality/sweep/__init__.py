"""The sweep of an image: m = 1, 2, ... until a word of m tokens passes (paper Section 3.1)."""
