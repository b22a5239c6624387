"""What is judged: listed and frozen, read and decoded, each input known by the digest of its bytes."""
