"""Run the published models at full size with random weights on this machine: ``make full-size``."""
