"""Training of the small models that ship: the shapes model and the detector of elements."""
