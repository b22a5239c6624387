"""Choosing thresholds from labelled images."""
