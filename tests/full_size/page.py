"""README.md of the results."""

from __future__ import annotations

from typing import Any

TITLES = {
    "model": "writing SD v1-4's architecture, bf16",
    "single file": "unpacking it from one file, bit for bit",
    "encode": "VAE encode, 512 x 512",
    "decode": "VAE decode, 512 x 512",
    "inversion 2": "inversion step, batch 2",
    "inversion 4": "inversion step, batch 4",
    "redraw": "redraws, guided, decoded",
    "editability": "cat detector on edit images",
    "dreamsim": "DreamSim ensemble, fp32",
    "sweep": "sweep of one image, one token, one step",
    "sdxl": "SDXL, counted only",
}


def page(results: dict[str, Any]) -> str:
    """The whole file."""
    machine, versions = results["machine"], results["versions"]
    amx = ", AMX-bf16" if machine["amx_bf16"] else ""
    lines = [
        "# Full size",
        "",
        "Stable Diffusion v1-4's real architecture, DreamSim's ensemble and the cat detector, through this",
        "package's own code (`make full-size`). All weights but the detector's are random: only time,",
        "memory and finite numbers mean anything. Made from `results.json`.",
        "",
        f"On {machine['processor']} ({machine['cores']} cores{amx}, {machine['threads']} threads used, "
        f"{machine['memory_gib']} GiB), not all to itself: the load is that of the last minute; "
        f"{', '.join(f'{name} {number}' for name, number in versions.items())}.",
        "",
        "| Part | Seconds | Images | UNet samples | Samples/s | Peak GiB | Load |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(row(TITLES[name], part) for name, part in results["parts"].items()),
        "",
        "| Parameters | |",
        "| --- | ---: |",
    ]
    for name in ("model", "dreamsim", "sdxl"):
        for what, count in results["parts"].get(name, {}).get("parameters", {}).items():
            lines.append(f"| {'SDXL ' if name == 'sdxl' else ''}{what} | {count:,} |")
    return "\n".join([*lines, ""])


def row(title: str, part: dict[str, Any]) -> str:
    """Drawing is what takes the UNet's time where images are also judged."""
    seconds, samples = part.get("seconds"), part.get("unet_samples")
    busy = part.get("drawing_seconds", seconds)
    rate = f"{samples / busy:.2f}" if samples and busy else ""
    cells = [title, seconds, part.get("images"), samples, rate, part["peak_gib"], part["load"]]
    return "| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |"
