"""Layout of the histogram of min tokens: positions and sizes of its bars, without colours."""

from __future__ import annotations

from dataclasses import dataclass

from originality.report.order import Histogram
from originality.report.phrases import number_word, plural, tokens_phrase

WIDTH = 440
"""Units of the drawing. Close to the width of a phone, so that text stays legible there."""
HEIGHT = 250
_TOP, _BOTTOM = 30, 44
_GAP = 0.22
"""Share of a bar's width that is left as a gap."""


@dataclass(frozen=True)
class Bar:
    """One column."""

    label: str
    """ "1".."M", or "+" for censored."""
    count: int
    never: bool
    x: float
    y: float
    width: float
    height: float
    shade: float
    """From 0 (one token) to 1 (M tokens)."""

    @property
    def middle(self) -> float:
        """Horizontal middle, in pixels."""
        return self.x + self.width / 2


@dataclass(frozen=True)
class Chart:
    """The histogram, laid out."""

    bars: tuple[Bar, ...]
    width: int
    height: int
    base: float
    """y coordinate of the axis."""
    description: str
    """The same in words, for screen readers."""


def chart(counts: Histogram) -> Chart:
    """Lay out a histogram. Every bar has a label and a count, so nothing depends on colour."""
    labels = [str(tokens) for tokens in range(1, counts.max_tokens + 1)] + ["+"]
    numbers = [*counts.tokens, counts.never]
    tallest, base = max([1, *numbers]), HEIGHT - _BOTTOM
    place = WIDTH / len(labels)
    bars = []
    for index, (label, count) in enumerate(zip(labels, numbers, strict=True)):
        height = (base - _TOP) * count / tallest
        bars.append(
            Bar(
                label=label,
                count=count,
                never=label == "+",
                x=round(place * (index + _GAP / 2), 2),
                y=round(base - height, 2),
                width=round(place * (1 - _GAP), 2),
                height=round(height, 2),
                shade=round(index / max(1, counts.max_tokens - 1), 3),
            )
        )
    return Chart(tuple(bars), WIDTH, HEIGHT, base, _describe(counts))


def _describe(counts: Histogram) -> str:
    parts = [
        f"{tokens_phrase(tokens)}: {plural(count, 'image')}"
        for tokens, count in enumerate(counts.tokens, start=1)
    ]
    most = number_word(counts.max_tokens)
    return f"{'; '.join(parts)}; not redrawn with up to {most}: {plural(counts.never, 'image')}."
