"""``python -m originality.synthetic.training``: train the model that ships, stage by stage.

Each stage checkpoints into the user's cache and goes on from there; a finished stage is only loaded.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from originality.synthetic.dataset import TaughtSet
from originality.synthetic.training import autoencoder, denoiser
from originality.synthetic.training.assemble import assemble
from originality.synthetic.training.latents import encode_set
from originality.synthetic.training.recipe import ShapesRecipe
from originality.synthetic.training.words import all_words, save_tokenizer


def default_folder() -> Path:
    """Checkpoints live in the user's cache, so that they outlast a checkout."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "originality" / "train-shapes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=default_folder(), help="checkpoints")
    parser.add_argument("--out", type=Path, help="model folder (default: FOLDER/shapes)")
    parser.add_argument("--recipe", type=Path, help="JSON of a recipe, to train another model")
    arguments = parser.parse_args()
    folder = arguments.folder
    recipe = ShapesRecipe()
    if arguments.recipe:
        recipe = ShapesRecipe.model_validate_json(arguments.recipe.read_text())
    images = TaughtSet()
    vae = autoencoder.train(recipe, folder, images)
    moments = encode_set(vae, images, recipe.seed, recipe.denoiser.images, folder)
    tokenizer = save_tokenizer(all_words(), recipe.text.max_length, folder / "tokenizer")
    trained = denoiser.train(recipe, vae, moments, images, tokenizer, folder)
    assemble(vae, trained, arguments.out or folder / "shapes")


if __name__ == "__main__":
    main()
