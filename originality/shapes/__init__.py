"""The world of shapes (paper Section 2, Appendices B and E.1): elements, drawing, image sets, detector.

Needs no diffusion model.
"""
