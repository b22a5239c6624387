"""The explorer: a local page over a run folder. Rows in DuckDB, a server for this machine alone, the page."""
