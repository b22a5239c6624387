"""A package that brings a metric and a detector."""

import numpy as np


class Grey:
    """How much darker or brighter a redraw is than the image, on average."""

    name, largest, threshold = "grey", 1.0, 0.2

    def __init__(self, settings, device):
        pass

    def digest(self):
        return "grey 1"

    def embed(self, images):
        return [float(image.mean()) / 255 for image in images]

    def between(self, query, redraws):
        return np.abs(np.array(redraws, np.float64) - query)


class Bright:
    """How bright an image is, whatever the subject."""

    def __init__(self, subject, settings, device):
        pass

    def digest(self):
        return "bright 1"

    def scores(self, images):
        return images.mean(axis=(1, 2, 3)) / 255
