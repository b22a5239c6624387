"""Formats in which the results of a run leave it."""
