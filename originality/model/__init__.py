"""One latent diffusion model: on disk, in memory and in use."""
