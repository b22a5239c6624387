"""What every command shares: its process, its options, and how it ends."""
