"""The report's findings in plain words, and names from outside made safe to look at."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Sequence

from originality.report.data import Reason
from originality.report.order import Histogram

_UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen")
_NUMBERS = (*_UNITS, *_TEENS)

_JOINERS = "\u200c\u200d"
"""Format characters that some scripts and emoji cannot do without; they deceive nobody."""

ADVICE = {
    "empty": "The file holds nothing: copy it again from where it came.",
    "not-an-image": "Leave it out, or save it as PNG, JPEG, WebP, TIFF, BMP or GIF under the same name.",
    "too-large": "Save a smaller copy under the same name: the model sees a small square of it anyway.",
    "too-small": "Nothing can be seen in it: leave it out, or put a larger copy in its place.",
    "truncated": "The file ends too early: copy it again from where it came.",
    "corrupt": "The file is damaged: copy it again from where it came, or save it anew.",
    "unsupported": "Save it with 8 bits a channel, e.g. as PNG, under the same name.",
    "decoder-crashed": "It makes the decoder crash: save it anew with another program, under the same name.",
    "decoder-memory": "To decode it takes too much memory: save a smaller copy under the same name.",
    "decoder-timeout": "To decode it takes too long: save a smaller copy under the same name; "
    "where the machine was overloaded, it may do as it is.",
    "missing": "The file has gone since the collection was listed: bring it back to its place.",
    "unreadable": "It may not be read, or is no plain file: see to its permissions.",
    "damaged": "What was recorded of it is damaged: run the same audit again, which judges it anew.",
    "WorkerDied": "Three workers ended with it in hand, as when memory runs out: use a machine that has "
    "more, or fewer workers at once (--max-workers).",
    "BadRecord": "What the program found could not be written down, a fault of its own: report it with "
    "the image's message.",
    "OutOfMemoryError": "The GPU's memory ran out: use one that has more.",
    "InversionFailed": "The search for the pseudo-word broke down. Audit it with a lower "
    "inversion.learning_rate, or with model.dtype fp32, into another output.",
}
"""What to do, by error class. Whatever is not named here gets the advice of its status."""

STATUS_ADVICE = {
    "rejected": "Leave it out, or repair or convert the file under the same name.",
    "failed": "The image's message says what stood in the way: mend that.",
}

_FINAL = frozenset({"InversionFailed", "BadRecord"})
"""Error classes that the same settings would bring about again."""


def number_word(number: int) -> str:
    """A number as a word where it is short to say."""
    return _NUMBERS[number] if 0 <= number < len(_NUMBERS) else str(number)


def tokens_phrase(number: int) -> str:
    """ "one token", "four tokens"."""
    return f"{number_word(number)} token{'' if number == 1 else 's'}"


def plural(count: int, word: str) -> str:
    """ "1 image", "2,000 images"."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def visible(text: str) -> str:
    """Show what would hide: control and direction characters become their code, e.g. ⟨U+202E⟩.

    A right-to-left override makes "gpj.exe" look like "exe.jpg"; a lone surrogate, from a file name that
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
    """The finding in one paragraph: how many images need how many tokens."""
    judged = sum(counts.tokens) + counts.never
    return _judged(counts, judged) if judged else "No image has been judged."


def remarks(
    rejected: int, failed: int, pending: int, doubts: Sequence[str] = (), notes: Sequence[str] = ()
) -> list[str]:
    """What became of the images that have no finding, a sentence or two each; and why the thresholds may not
    be right."""
    said = list(notes)
    if doubts:
        said.append(f"The calibration of the thresholds does not speak for this run: {'; '.join(doubts)}.")
    if rejected:
        said.append(
            f"{plural(rejected, 'image')} could not be read and {_was(rejected)} rejected. "
            "The reasons, and what to do, are below."
        )
    if failed:
        said.append(
            f"{plural(failed, 'image')} {_was(failed)} not judged because of an error. "
            "The reasons, and what to do, are below."
        )
    if pending:
        said.append(
            f"{plural(pending, 'image')} {'has' if pending == 1 else 'have'} no verdict yet. "
            "Start the audit again on this output to go on."
        )
    return said


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
    """What a person can do about rejected or failed images."""
    return ADVICE.get(reason.error_class, STATUS_ADVICE[reason.status])


def may_be_retried(reason: Reason) -> bool:
    """Whether the same audit may judge such an image, once what the advice says is done."""
    return reason.error_class not in _FINAL


def retry_command(output: str, status: str) -> str:
    """What puts images back so that the same audit judges them again, ready for a shell."""
    return shlex.join(["originality", "retry", output, "--status", status])
