"""Networks that look at images: CLIP, and ImageNet's classes."""
