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
    "editability": "cat detector on them",
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
        "Seconds hold for the load beside them, the machine's average of the last minute, others' work",
        "included: redraws and edit images are the same work. Each part was a process of its own.",
        "",
        f"On {machine['processor']} ({machine['cores']} cores{amx}, {machine['threads']} threads used, "
        f"{machine['memory_gib']} GiB), with {', '.join(map(' '.join, versions.items()))}.",
        "",
        "| Part | Seconds | Images | UNet samples | Samples/s | Peak GiB | Load |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(line for name, part in results["parts"].items() for line in rows(TITLES[name], part)),
        "",
        "| Parameters | |",
        "| --- | ---: |",
    ]
    for name in ("model", "dreamsim", "sdxl"):
        for what, count in results["parts"].get(name, {}).get("parameters", {}).items():
            lines.append(f"| {'SDXL ' if name == 'sdxl' else ''}{what} | {count:,} |")
    return "\n".join([*lines, ""])


def rows(title: str, part: dict[str, Any]) -> list[str]:
    """A part's line of the table; where images were drawn first, that is a line before it."""
    if "drawing_seconds" not in part:
        return [_row(title, part)]
    judged = {name: value for name, value in part.items() if name != "unet_samples"}
    return [
        _row("edit images, guided, decoded", {**part, "seconds": part["drawing_seconds"]}),
        _row(title, judged),
    ]


def _row(title: str, part: dict[str, Any]) -> str:
    seconds, samples = part.get("seconds"), part.get("unet_samples")
    rate = f"{samples / seconds:.2f}" if samples and seconds else ""
    cells = [title, seconds, part.get("images"), samples, rate, part["peak_gib"], part["load"]]
    return "| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |"
