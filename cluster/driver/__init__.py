"""The driver: leases images to workers, hires and releases them, and shows how far the run is."""
