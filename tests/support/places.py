"""Where things are, for tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
EXAMPLES = ROOT / "examples"
SUPPORT = Path(__file__).parent


def python_path() -> str:
    """``PYTHONPATH`` for processes that import what tests import."""
    return os.pathsep.join([str(ROOT), *filter(None, sys.path)])
