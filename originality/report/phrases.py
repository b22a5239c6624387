"""Texts of the report: findings as sentences, advice by error class, and names from outside made visible."""

from __future__ import annotations

import math
import shlex
import unicodedata
from collections.abc import Sequence

from originality.report.data import Reason, Row
from originality.report.order import Histogram

_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen")
_NUMBERS = (*_UNITS, *_TEENS)

_JOINERS = "\u200c\u200d"
"""Format characters that some scripts and emoji require. They cannot hide or reorder text."""

ADVICE = {
    "empty": "The file is empty: copy it again from its source.",
    "not-an-image": "Leave it out, or save it as PNG, JPEG, WebP, TIFF, BMP or GIF under the same name.",
    "too-large": "Save a smaller copy under the same name: the model sees only a small square of it anyway.",
    "too-small": "It is too small to show anything: leave it out, or replace it with a larger copy.",
    "truncated": "The file is incomplete: copy it again from its source.",
    "corrupt": "The file is damaged: copy it again from its source, or save it again.",
    "unsupported": "Save it with 8 bits per channel, for example as PNG, under the same name.",
    "decoder-crashed": "It crashes the decoder: save it with a different program, under the same name.",
    "decoder-memory": "Decoding it takes too much memory: save a smaller copy under the same name.",
    "decoder-timeout": "Decoding it takes too long: save a smaller copy under the same name. "
    "If the machine was overloaded, a retry may succeed without changes.",
    "missing": "The file was removed after the collection was listed: restore it.",
    "unreadable": "It cannot be read, or is not a regular file: check its permissions.",
    "damaged": "Its record is damaged: run the same audit command again, which judges it again.",
    "WorkerDied": "Three workers died while judging it, for example because memory ran out: use a machine "
    "with more memory, or fewer workers at once (--max-workers).",
    "BadRecord": "The result could not be stored, which is a bug in this program: report it together with "
    "the error message.",
    "OutOfMemoryError": "The GPU ran out of memory: use one with more.",
    "NeedsSweep": "What was measured does not decide it under this threshold: put it back, and run the "
    "audit's command with this threshold and this run folder.",
    "InversionFailed": "Training the pseudo-word gave numbers that are not finite. Audit it with a lower "
    "inversion.learning_rate, or with model.dtype fp32, into a different run folder.",
}
"""What to do, by error class. Other error classes get the advice of their status."""

STATUS_ADVICE = {
    "rejected": "Leave it out, or repair or convert the file under the same name.",
    "failed": "The error message names the cause: fix that.",
}

FINAL = frozenset({"InversionFailed", "BadRecord"})
"""Error classes that a retry with the same settings would repeat."""


def number_word(number: int) -> str:
    """A number as a word up to sixteen, as digits above."""
    return _NUMBERS[number] if 0 <= number < len(_NUMBERS) else str(number)


def tokens_phrase(number: int) -> str:
    """ "one token", "four tokens"."""
    return f"{number_word(number)} token{'' if number == 1 else 's'}"


def plural(count: int, word: str) -> str:
    """ "1 image", "2,000 images"."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def percent(probability: float) -> int:
    """A probability in percent, rounded down, at most 99: none here is certain."""
    return min(99, math.floor(100 * probability + 1e-6))


def sure(row: Row) -> str:
    """How sure a verdict is, and whether distance or check decided it; empty if that is not known."""
    reference = ""
    if row.reference_distance is not None:
        reference = f" Distance to what the plain prompt gives: {row.reference_distance:.2f}."
    if row.score is None or row.score_low is None or row.score_high is None or row.confidence is None:
        return reference.strip()
    interval = f"95 % interval {row.score_low:.2f} to {row.score_high:.2f}"
    text = f"Score {row.score:.2f} tokens ({interval}), confidence {percent(row.confidence)} %."
    if row.redrawn_at is not None and row.redrawn_at != row.min_tokens:
        at = tokens_phrase(row.redrawn_at)
        text += f" Its redraws were near enough at {at}; the in-distribution check decided."
    return text + reference


def visible(text: str) -> str:
    """Replace invisible characters, such as control and direction characters, by their code, e.g. ⟨U+202E⟩.

    A right-to-left override would make "gpj.exe" look like "exe.jpg"; a lone surrogate, from a file name that
    is not UTF-8, cannot be written into a page at all.
    """
    if text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(char):04X}⟩"
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} and char not in _JOINERS
        else char
        for char in text
    )


def answer(counts: Histogram) -> str:
    """The finding in one sentence: how many images need how many tokens."""
    judged = sum(counts.tokens) + counts.never
    return _judged(counts, judged) if judged else "No image has been judged."


def remarks(
    rejected: int, failed: int, pending: int, doubts: Sequence[str] = (), notes: Sequence[str] = ()
) -> list[str]:
    """Warnings below the finding: notes, doubts about the thresholds, and images without a verdict."""
    lines = list(notes)
    if doubts:
        lines.append(
            "The thresholds were calibrated for a different model, metric or method than this run's: "
            f"{'; '.join(doubts)}."
        )
    if rejected:
        lines.append(
            f"{plural(rejected, 'image')} could not be read and {_was(rejected)} rejected. "
            "The reasons, and what to do, are below."
        )
    if failed:
        lines.append(
            f"{plural(failed, 'image')} failed with an error and {_was(failed)} not judged. "
            "The reasons, and what to do, are below."
        )
    if pending:
        lines.append(
            f"{plural(pending, 'image')} {'has' if pending == 1 else 'have'} no verdict yet. "
            "Run the same audit command again to resume."
        )
    return lines


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _judged(counts: Histogram, judged: int) -> str:
    parts = []
    for tokens, count in enumerate(counts.tokens, start=1):
        if not count:
            continue
        known = f" (the model knows {'it' if count == 1 else 'them'} well)" if tokens == 1 else ""
        verb = "needs" if count == 1 else "need"
        parts.append(f"{count:,} {verb} {tokens_phrase(tokens)}{known}")
    if counts.never:
        parts.append(
            f"{counts.never:,} could not be redrawn with {_up_to(counts.max_tokens)} (original to this model)"
        )
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{plural(judged, 'image')}: {listed}."


def _up_to(tokens: int) -> str:
    return "one token" if tokens == 1 else f"up to {tokens_phrase(tokens)}"


def advice(reason: Reason) -> str:
    """What the user can do about images that were not judged for this reason."""
    return ADVICE.get(reason.error_class, STATUS_ADVICE[reason.status])


def may_be_retried(reason: Reason) -> bool:
    """Whether a retry can succeed once the advice was followed."""
    return reason.error_class not in FINAL


def retry_command(output: str, status: str) -> str:
    """The command, for a shell, that puts images back to be judged again by the same audit."""
    return shlex.join(["originality", "retry", output, "--status", status])
