"""Hooks of MkDocs: links into the repository, and the page of commands.

Pages under docs/ are read on GitHub as well, so they link to code by relative paths. On the site such a link
leads to the repository; one to a file that does not exist fails the build, like any other broken link.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCED = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
_COMMANDS = "<!-- commands -->"


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """The page's Markdown with links into the repository and the commands' help filled in."""
    if _COMMANDS in markdown:
        return markdown.replace(_COMMANDS, _helps())
    file = Path(config.docs_dir) / page.file.src_uri
    parts = _FENCED.split(markdown)
    # Every second part is a block of code, in which nothing is a link.
    parts[::2] = [
        _LINK.sub(lambda m: _site_link(m[1], file, config) + (m[2] or ""), part) for part in parts[::2]
    ]
    return "".join(parts)


def _site_link(target: str, file: Path, config: Any) -> str:
    """A link of ``file``; one that leaves docs/ leads to the repository on the web."""
    if "://" in target or target.startswith("mailto:"):
        return target
    place = Path(os.path.normpath(file.parent / target))
    docs = Path(config.docs_dir)
    inside = place == docs or docs in place.parents
    if inside and (place / "README.md").is_file():
        return f"{target.rstrip('/')}/README.md"  # a folder's page
    if inside and not place.is_dir():
        return target
    if not place.exists():
        from mkdocs.exceptions import PluginError

        raise PluginError(f"{file.relative_to(ROOT)} links to {target}, which does not exist")
    kind = "tree" if place.is_dir() else "blob"
    return f"{config.repo_url.rstrip('/')}/{kind}/main/{place.relative_to(ROOT)}"


def _helps() -> str:
    """A section for each command, with its help. In a separate process, as some commands import torch."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "command_help.py")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "92", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    helps: dict[str, str] = json.loads(done.stdout)
    return "\n\n".join(f"## `{name}`\n\n```text\n{text.strip()}\n```" for name, text in helps.items())
