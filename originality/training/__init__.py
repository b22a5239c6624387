"""Small models trained from nothing: the shapes model that ships, and the detector of elements."""
