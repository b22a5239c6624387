from __future__ import annotations

import sys
from pathlib import Path

_SCORER = Path(__file__).parents[1] / "cluster"
"""Where the small scorer of the engine's tests is."""
if str(_SCORER) not in sys.path:
    sys.path.append(str(_SCORER))
