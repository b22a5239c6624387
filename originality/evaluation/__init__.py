"""Judges a learned word: its distance, whether it stays editable, and the verdict.

Paper Sections 3.1 and 4.
"""
