"""A run folder: its plan, records, leases and tables."""
