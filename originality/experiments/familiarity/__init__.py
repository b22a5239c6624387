"""Does the number of tokens follow how often the model that ships saw an image?

Paper Section 5, Figure 6.
"""
