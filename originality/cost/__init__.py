"""What work takes: memory, operations, and counts that were measured."""
