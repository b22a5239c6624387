"""One copy of a model on each node, from a bucket or the hub."""
