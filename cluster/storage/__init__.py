"""Object stores behind one interface, and what is built on them: queues, locks, heartbeats, checksums."""
