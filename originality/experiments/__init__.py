"""The paper's experiments on the world of shapes, beside which familiarity is measured on the model that
ships."""
