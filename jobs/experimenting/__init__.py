"""What stands behind the experiments' command: tasks as runs of the engine, and the results that are kept."""
