"""The run report: one self-contained HTML page that says which images are original to the model, and why."""
