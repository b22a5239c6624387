"""The paper's experiments on the world of shapes, and min tokens against familiarity on the shipped model."""
