"""The driver: leases images to workers, hires and releases workers, and shows the progress of a run."""
