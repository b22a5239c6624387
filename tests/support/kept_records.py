"""Records of measurements as an experiment stores them, with known answers."""

from __future__ import annotations

from originality.experiments.tasks.measure_pairs import GROUPS

COLOURS = ("red", "blue", "red", "green")


def sweep(distances, editable=True):
    return [
        {"tokens": m, "distance_mean": d, "editable": editable, "editability": 1.0}
        for m, d in enumerate(distances, 1)
    ]


def record(name, needed, images=20, described=0.1, groups=GROUPS):
    """A model that needs about these numbers of tokens for each group (6: never), varied by image number."""
    rows = []
    for group, tokens in zip(groups, needed, strict=True):
        for number in range(images):
            own = min(6, max(1, tokens + (number % 3) - 1))
            distances = [0.1 if m >= own else 0.8 for m in range(1, 6)]
            rows.append(
                {
                    "image_id": f"{group} {number}",
                    "status": "judged",
                    "group": group,
                    "number": number,
                    "sweep": sweep(distances),
                    "described": described,
                    "caption": f"big {COLOURS[number % 4]} full circle and big red full star",
                }
            )
    settings = {
        "inversion": {"steps": 60, "batch_size": 8, "learning_rate": 0.01},
        "redraw": {"count": 20, "steps": 15, "guidance_scale": 3.0},
    }
    return {"name": name, "rows": rows, "seconds": 60.0, "settings": settings}


def measured(elements, repeat, prompted, empty):
    """A model that draws each missing element in these shares of a hundred images."""
    names = ("big red full square", "big blue full circle")
    prompts = [
        {
            "prompt": prompt,
            "images": 100,
            "shown": {n: round(100 * ((prompted if n == prompt else 0) if prompt else empty)) for n in names},
            "elements": {n: round(100 * (prompted if n == prompt else empty)) for n in names}
            | {"big red full circle": 60},
            "unsure": 40,
            "made out": dict.fromkeys(names, 10 if empty or prompted else 0),
            "confidence": dict.fromkeys(names, 0.9 if prompt else 0.7),
            "counts": {"1": 100},
        }
        for prompt in ("", *names)
    ]
    measure = {"wanted": names, "images": 100, "redraw": {"guidance_scale": 3.0}}
    name = f"elements-{elements}-{repeat}"
    return {"name": name, "prompts": prompts, "seconds": 60.0, "measure": measure}
