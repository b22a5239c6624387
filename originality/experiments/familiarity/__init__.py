"""Does the number of tokens follow how often the model that ships saw an image? (paper Section 5, Figure
6)"""
