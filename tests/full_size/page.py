"""The page of the results at full size."""

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
    """Text of the page (README.md)."""
    machine, versions = results["machine"], results["versions"]
    amx = ", AMX-bf16" if machine["amx_bf16"] else ""
    lines = [
        "# Full size",
        "",
        "**Question.** Does this package's code run the published models at their real size on a machine",
        "without a GPU, and at what cost in time and memory?",
        "",
        "**Answer.** Yes: every part below finished with finite numbers, with at most "
        f"{max(part['peak_gib'] for part in results['parts'].values())} GiB of memory.",
        "Stable Diffusion v1-4's architecture, DreamSim's ensemble and the cat detector are run by",
        "`make full-size`; this page is written from `results.json`.",
        "",
        "**Caveat.** All weights but the detector's are random: times, memory and finiteness are meaningful,",
        "images and scores are not. Seconds depend on the load beside them, the machine's average over the",
        "last minute, other programs included: redraws and edit images are the same amount of work. Each",
        "part ran in a separate process. SDXL's parameters are counted, and it is not run.",
        "",
        f"Measured on {machine['processor']} ({machine['cores']} cores{amx}, "
        f"{machine['threads']} threads used, "
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
    """A part's lines of the table: one, or two if images were drawn first."""
    if "drawing_seconds" not in part:
        return [_row(title, part)]
    measured = {name: value for name, value in part.items() if name != "unet_samples"}
    return [
        _row("edit images, guided, decoded", {**part, "seconds": part["drawing_seconds"]}),
        _row(title, measured),
    ]


def _row(title: str, part: dict[str, Any]) -> str:
    seconds, samples = part.get("seconds"), part.get("unet_samples")
    rate = f"{samples / seconds:.2f}" if samples and seconds else ""
    cells = [title, seconds, part.get("images"), samples, rate, part["peak_gib"], part["load"]]
    return "| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |"
