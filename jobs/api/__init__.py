"""What ``import originality`` offers: an auditor of single images, and the results of a run."""

from jobs.api.auditor import Auditor
from jobs.api.run import Run, open_run
from jobs.api.verdict import Verdict, Word

__all__ = ["Auditor", "Run", "Verdict", "Word", "open_run"]
