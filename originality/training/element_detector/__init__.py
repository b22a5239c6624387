"""The detector of elements: its training images, targets, training and scores."""
