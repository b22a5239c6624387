"""Thresholds from labelled images."""
