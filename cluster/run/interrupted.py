"""The exception of a run that was stopped on purpose. Apart from the driver, so that it needs no Ray."""

from __future__ import annotations


class Interrupted(Exception):  # noqa: N818 - not an error
    """Stopped by a signal, a deadline or the limit on cost. Everything finished is committed, and the same
    command resumes the run."""
