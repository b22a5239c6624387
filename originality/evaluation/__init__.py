"""A learned word under judgement: its distance, whether it stays editable, and the verdict (paper Sections
3.1 and 4)."""
