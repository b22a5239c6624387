from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from originality.settings import DistanceSettings, SettingsError
from originality.similarity import load_distance

def none_of(*names):
    loaded = [name for name in names if name in sys.modules]
    assert not loaded, loaded

none_of("torch")
try:
    load_distance(DistanceSettings(metric="elements"))
except SettingsError:
    pass  # no detector yet
none_of("dreamsim", "peft", "open_clip", "transformers", "efficientnet_lite_pytorch")
load_distance(DistanceSettings(metric="imagenet"))
none_of("dreamsim", "peft", "open_clip", "transformers")
"""


def test_imports_only_what_is_chosen() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
