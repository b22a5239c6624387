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
    from jobs.api import Auditor as Auditor
    from jobs.api import Run as Run
    from jobs.api import Verdict as Verdict
    from jobs.api import Word as Word
    from jobs.api import open_run as open_run

    __version__: str

__all__ = ["Auditor", "Run", "Verdict", "Word", "__version__", "open_run"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("originality")
    if name in __all__:
        return getattr(importlib.import_module("jobs.api"), name)
    raise AttributeError(f"module 'originality' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
