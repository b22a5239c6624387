"""Work that the engine drives for an experiment: train a model, measure pairs, measure elements."""
