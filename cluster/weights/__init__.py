"""Model weights on each node: one copy of a model, fetched from a bucket or the hub."""
