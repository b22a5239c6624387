from __future__ import annotations

import pytest
from pydantic import ValidationError

from originality.prompts import ART_TEMPLATES, DOMAINS, OBJECT_TEMPLATES, Domain, vocabulary


def test_templates_are_as_many_as_published_and_all_different():
    assert len(set(OBJECT_TEMPLATES)) == len(OBJECT_TEMPLATES) == 27
    assert len(set(ART_TEMPLATES)) == len(ART_TEMPLATES) == 20
    assert "a photo of the weird {}" in OBJECT_TEMPLATES
    assert "a close-up photo of a {}" in OBJECT_TEMPLATES
    assert not any("  " in t for t in OBJECT_TEMPLATES)


def test_domains_of_the_paper_start_from_their_words():
    words = {name: d.initial_word for name, d in DOMAINS.items()}
    assert words["houses"] == "house"
    assert words["artwork"] == "painting"
    assert words["people"] == "person"


def test_no_domain_asks_for_its_own_initial_word():
    for domain in DOMAINS.values():
        assert domain.initial_word not in domain.edit_prompt


@pytest.mark.parametrize("templates", [(), ("no place",), ("{} and {}",)])
def test_a_template_holds_the_pseudo_word_once(templates):
    with pytest.raises(ValidationError):
        Domain(name="x", initial_word="x", templates=templates)


def test_the_vocabulary_holds_every_word_of_the_templates():
    words = set(vocabulary())
    assert {"photo", "shape", "house", "cat", "artwork", "in"} <= words
    assert all(w == w.lower() for w in words)
