"""Objects in a folder or a bucket behind one interface, with what is built on them: locks, turns,
heartbeats."""
