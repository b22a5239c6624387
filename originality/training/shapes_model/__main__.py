"""Train the shapes model that ships, stage by stage: ``python -m originality.training.shapes_model``.

Each stage writes checkpoints to the user's cache and resumes from them; a finished stage is only loaded.
Started by ``torchrun --standalone --nproc-per-node N -m originality.training.shapes_model``, N processes
share the work.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from diffusers import AutoencoderKL

from originality.shapes.image_sets import TaughtSet
from originality.training.shapes_model import autoencoder, denoiser
from originality.training.shapes_model.assemble import assemble
from originality.training.shapes_model.latents import encode_set
from originality.training.shapes_model.recipe import ShapesRecipe
from originality.training.shapes_model.vocabulary import all_words, save_tokenizer
from originality.training.stage import Processes, default_folder, join_processes


def main() -> None:
    """Run ``python -m originality.training.shapes_model``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=default_folder(), help="checkpoints")
    parser.add_argument("--out", type=Path, help="model folder (default: FOLDER/shapes)")
    parser.add_argument("--recipe", type=Path, help="JSON of a recipe, to train another model")
    parser.add_argument("--autoencoder", type=Path, help="model folder whose finished autoencoder is used")
    parser.add_argument(
        "--first-round", type=Path, help="model folder at the end of the first round, to continue from"
    )
    arguments = parser.parse_args()
    join_processes()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    recipe = ShapesRecipe()
    if arguments.recipe:
        recipe = ShapesRecipe.model_validate_json(arguments.recipe.read_text())
    images = TaughtSet()
    if arguments.autoencoder:
        vae = AutoencoderKL.from_pretrained(arguments.autoencoder, subfolder="vae").eval()
        vae.requires_grad_(False)
    else:
        vae = autoencoder.train(recipe, folder, images)
    moments = encode_set(vae, images, recipe.seed, recipe.denoiser.images, folder)
    rank = Processes.current().rank
    tokenizer = save_tokenizer(all_words(), recipe.text.max_length, folder / f"tokenizer-{rank}")
    trained = denoiser.train(recipe, vae, moments, images, tokenizer, folder, arguments.first_round)
    if rank == 0:
        out = arguments.out or folder / "shapes"
        assemble(vae, trained, out)
        (out / "recipe.json").write_text(recipe.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
