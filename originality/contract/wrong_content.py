"""What a file is instead of what its name promises: a pointer of git LFS, a web page, or empty."""

from __future__ import annotations

import re


def wrong_content(start: bytes) -> str | None:
    """What else a file with these first bytes is, in place of what its name says."""
    if not start:
        return "is empty; fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of git LFS in place of the file; fetch it with git lfs pull"
    if re.match(rb"\s*<(!doctype|html|head|\?xml)", start, re.IGNORECASE):
        return "is a web page in place of the file; download it again"
    return None
