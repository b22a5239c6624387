"""Recognises a file whose content is not what its name says: a pointer of git LFS, a web page, or nothing."""

from __future__ import annotations

import re


def wrong_content(start: bytes) -> str | None:
    """Describe the wrong content that a file with these first bytes has; None if there is no sign of any."""
    if not start:
        return "is empty; fetch it again"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of git LFS in place of the file; fetch it with git lfs pull"
    if re.match(rb"\s*<(!doctype|html|head|\?xml)", start, re.IGNORECASE):
        return "is a web page in place of the file; download it again"
    return None
