"""Train the small Stable Diffusion that ships, from nothing (``make train-shapes``)."""
