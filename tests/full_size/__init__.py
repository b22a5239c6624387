"""The published models' real sizes on this machine, with random weights: ``make full-size``."""
