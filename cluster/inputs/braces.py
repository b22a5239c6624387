"""Brace patterns, expanded as a shell does: ``{00000..00999}``, ``{a,b}``, nested and side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

_NUMBERS = re.compile(r"([+-]?\d{1,15})\.\.([+-]?\d{1,15})(?:\.\.([+-]?\d{1,9}))?")
_LETTERS = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.([+-]?\d{1,9}))?")


def has_braces(pattern: str) -> bool:
    """Whether a shell would expand a pattern."""
    return _first_group(pattern) is not None


def expanded(pattern: str) -> Iterator[str]:
    """The words of a pattern in a shell's order, one by one: there may be very many. A pattern without a
    group that a shell would expand is its only word."""
    group = _first_group(pattern)
    if group is None:
        yield pattern
        return
    start, end, choices = group
    for choice in _of_sequence(pattern[start + 1 : end]) or (w for c in choices for w in expanded(c)):
        for rest in expanded(pattern[end + 1 :]):
            yield f"{pattern[:start]}{choice}{rest}"


def _first_group(pattern: str) -> tuple[int, int, list[str]] | None:
    """Start and end of the first group that is expanded, and the choices in it; None if there is none.

    A group without a comma that is no sequence stays as it is, though one within it may be expanded.
    """
    opened: list[int] = []
    commas: list[list[int]] = []
    groups: list[tuple[int, int, list[str]]] = []
    for at, letter in enumerate(pattern):
        if letter == "{":
            opened.append(at)
            commas.append([])
        elif letter == "," and opened:
            commas[-1].append(at)
        elif letter == "}" and opened:
            start, cuts = opened.pop(), commas.pop()
            if cuts or _of_sequence(pattern[start + 1 : at]):
                marks = [start, *cuts, at]
                choices = [pattern[a + 1 : b] for a, b in pairwise(marks)]
                groups.append((start, at, choices))
    return min(groups, default=None)


def _of_sequence(body: str) -> Iterator[str] | None:
    """The words of ``x..y`` or ``x..y..step``; None if it is no sequence."""
    if found := _NUMBERS.fullmatch(body):
        first, last = found[1], found[2]
        padded = any(re.match(r"[+-]?0\d", text) for text in (first, last))
        width = max(len(first), len(last)) if padded else 0
        return (f"{number:0{width}d}" for number in _numbers(int(first), int(last), found[3]))
    if found := _LETTERS.fullmatch(body):
        return (chr(number) for number in _numbers(ord(found[1]), ord(found[2]), found[3]))
    return None


def _numbers(first: int, last: int, step: str | None) -> range:
    by = abs(int(step or 1)) or 1
    return range(first, last + 1, by) if first <= last else range(first, last - 1, -by)
