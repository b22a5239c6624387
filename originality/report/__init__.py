"""Report of a run: an HTML page that shows how original each image is to the model, and why."""
