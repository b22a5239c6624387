from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.inputs.braces import expanded, has_braces


@pytest.mark.parametrize(
    ("pattern", "words"),  # the words are those of bash
    [
        ("{a,b}", "a b"),
        ("s/{00008..00011}.tar", "s/00008.tar s/00009.tar s/00010.tar s/00011.tar"),
        ("x{1..3}y", "x1y x2y x3y"),
        ("{01..10..3}", "01 04 07 10"),
        ("{3..1}", "3 2 1"),
        ("{-2..2}", "-2 -1 0 1 2"),
        ("{-02..2}", "-02 -01 000 001 002"),
        ("{9..11}", "9 10 11"),
        ("{1..3..0}", "1 2 3"),
        ("{+1..3}", "1 2 3"),
        ("{a..e}", "a b c d e"),
        ("{e..a..2}", "e c a"),
        ("{a,{b,c}}d", "ad bd cd"),
        ("{a,b}{1..2}", "a1 a2 b1 b2"),
        ("{a,b{1..2}}", "a b1 b2"),
        ("{{1..2},x}", "1 2 x"),
        ("x{,y}", "x xy"),
        ("a{b}c", "a{b}c"),
        ("{a{b}c,d}", "a{b}c d"),
        ("{{a,b}}", "{a} {b}"),
        ("{a,b}}", "a} b}"),
        ("{{a,b}", "{a {b"),
        ("{1..2}{", "1{ 2{"),
        ("{a,b}{c", "a{c b{c"),
        ("{1..}", "{1..}"),
        ("{a..3}", "{a..3}"),
        ("{}", "{}"),
        ("}{", "}{"),
        ("{a,b", "{a,b"),
    ],
)
def test_words_are_those_of_a_shell(pattern: str, words: str) -> None:
    assert list(expanded(pattern)) == words.split()
    assert has_braces(pattern) == (words != pattern)


@given(st.text("{},.ab19", max_size=12))
def test_any_pattern_is_survived(pattern: str) -> None:
    words = list(islice(expanded(pattern), 1000))
    assert words == [pattern] or has_braces(pattern)


def test_words_come_one_by_one() -> None:
    assert list(islice(expanded("{0..999999999999}{0..999999999999}"), 2)) == ["00", "01"]
