"""How pseudo-words are learned, many at once (paper Section 3.1)."""
