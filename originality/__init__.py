"""How original is an image to a generative model? The front door for Python; see the guide "Python".

    import originality

    auditor = originality.Auditor(preset="laptop")
    verdict = auditor.judge("image.png")
    run = originality.open_run("s3://bucket/run")

Importing it is cheap: what stands behind a name is imported when the name is first used. That code is in
``jobs.api``, at the top of the three packages. This package may not import it, so it is looked up by name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.api.auditor import Auditor as Auditor
    from jobs.api.images import ImageLike as ImageLike
    from jobs.api.run import Run as Run
    from jobs.api.run import open_run as open_run
    from jobs.api.verdict import Verdict as Verdict
    from jobs.api.verdict import Word as Word
    from originality.evaluation.verdict import Attempt as Attempt

    __version__: str

_MODULES = {
    "Attempt": "originality.evaluation.verdict",
    "Auditor": "jobs.api.auditor",
    "ImageLike": "jobs.api.images",
    "Run": "jobs.api.run",
    "Verdict": "jobs.api.verdict",
    "Word": "jobs.api.verdict",
    "open_run": "jobs.api.run",
}
"""Where each name is defined; only that module is imported. An auditor needs torch, a run does not."""

__all__ = ["Attempt", "Auditor", "ImageLike", "Run", "Verdict", "Word", "__version__", "open_run"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("originality")
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'originality' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
