"""Models that the hub no longer has under the names that papers and code use, and where they are now."""

from __future__ import annotations

from typing import NamedTuple


class Home(NamedTuple):
    """The present location of a model on the hub."""

    name: str
    commit: str | None = None
    """A commit that public code names; None if there is none, and the model's page must be looked at."""


_MIRROR = "sd2-community"
"""Account with copies of the models that Stability removed in November 2025."""
MOVED = {
    "runwayml/stable-diffusion-v1-5": Home(
        "stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
    ),
    "runwayml/stable-diffusion-inpainting": Home("stable-diffusion-v1-5/stable-diffusion-inpainting"),
    "stabilityai/stable-diffusion-2": Home(f"{_MIRROR}/stable-diffusion-2"),
    "stabilityai/stable-diffusion-2-base": Home(f"{_MIRROR}/stable-diffusion-2-base"),
    "stabilityai/stable-diffusion-2-1": Home(
        f"{_MIRROR}/stable-diffusion-2-1", "bb2154823665391b4fb29b0b9cf82a198964ee05"
    ),
    "stabilityai/stable-diffusion-2-1-base": Home(
        f"{_MIRROR}/stable-diffusion-2-1-base", "4e63672c03103b6c636b8fb4119ba982469b2955"
    ),
    "stabilityai/stable-diffusion-2-1-unclip": Home(f"{_MIRROR}/stable-diffusion-2-1-unclip"),
    "stabilityai/stable-diffusion-2-inpainting": Home(
        f"{_MIRROR}/stable-diffusion-2-inpainting", "5f74973cbb64c8568780732c17f43eb269d63a0d"
    ),
    "stabilityai/stable-diffusion-2-depth": Home(f"{_MIRROR}/stable-diffusion-2-depth"),
}
"""By the removed name. The copies at the new locations were not uploaded by the models' authors."""

_BY_LOWER = {name.lower(): home for name, home in MOVED.items()}


def moved(name: str, setting: str = "model") -> str | None:
    """The message with a removed model's new location, as command line flags; None for other models.

    Args:
        setting: the section of the settings that names the model.
    """
    home = _BY_LOWER.get(name.lower())
    if home is None:
        return None
    where = f"--model {home.name}" if setting == "model" else f"--set {setting}.folder={home.name}"
    commit = home.commit or "(a commit of 40 hex digits, which its page on the hub lists)"
    return f"{name} was removed from the hub; use {where} --set {setting}.revision={commit}"
