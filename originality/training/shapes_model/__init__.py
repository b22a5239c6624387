"""Train the small Stable Diffusion that ships, from scratch (``make train-shapes``)."""
