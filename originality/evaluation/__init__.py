"""Judgement of a learned word: its distance, whether it stays editable, and the verdict (paper Sections 3.1
and 4)."""
