from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from originality.contract.config import SettingsError
from originality.settings.audit import AuditSettings
from originality.settings.domains import (
    ART_TEMPLATES,
    DOMAINS,
    OBJECT_TEMPLATES,
    Domain,
    WordMissing,
    edit_prompt,
    vocabulary,
)
from originality.settings.presets import load_settings


def test_templates_have_the_published_number_and_all_differ():
    assert len(set(OBJECT_TEMPLATES)) == len(OBJECT_TEMPLATES) == 27
    assert len(set(ART_TEMPLATES)) == len(ART_TEMPLATES) == 20
    assert "a photo of the weird {}" in OBJECT_TEMPLATES
    assert "a close-up photo of a {}" in OBJECT_TEMPLATES
    assert not any("  " in t for t in OBJECT_TEMPLATES)


def test_art_templates_are_those_of_appendix_e2():
    """Read there word by word, with {} for the paper's S*_m."""
    assert list(ART_TEMPLATES) == [
        "a detailed image of the artwork titled {}",
        "a high-resolution photo of the artwork {}",
        "a close-up view of the artwork known as {}",
        "a digital representation of the art piece {}",
        "the famous artwork {}",
        "a full view of the art piece titled {}",
        "an artistic interpretation of {}",
        "a gallery display of the artwork {}",
        "a photographic capture of the art {}",
        "the artwork {} in full detail",
        "a visual study of the artwork {}",
        "the complete artwork known as {}",
        "an exhibition view of {}",
        "a curated image of the artwork {}",
        "a detailed scan of {}",
        "an artistic rendering of {}",
        "a high-quality image of the artwork {}",
        "the full artwork titled {}",
        "a museum display of {}",
        "an archival photograph of the artwork {}",
    ]


def test_domains_start_from_the_words_of_table_1():
    assert {name: d.initial_words for name, d in DOMAINS.items()} == {
        "shapes": ("shape",),
        "houses": ("house",),
        "artwork": ("painting",),
        "animals": ("dog", "cat", "bird"),
        "sport": ("sport",),
        "people": ("person",),
    }
    assert {name for name, d in DOMAINS.items() if d.templates == ART_TEMPLATES} == {"artwork"}
    assert {name for name, d in DOMAINS.items() if d.templates == OBJECT_TEMPLATES} == {
        *("houses", "animals", "sport", "people")
    }


def test_a_domain_with_several_words_needs_the_images_word():
    assert DOMAINS["houses"].initial_word == "house"
    with pytest.raises(WordMissing, match=r"'animals' has several words \(dog, cat, bird\)"):
        _ = DOMAINS["animals"].initial_word


@pytest.mark.parametrize(
    ("word", "subject"),
    [
        ("dog", "cat"),
        ("cat", "car"),
        ("Cat", "car"),
        ("Persian cat", "car"),
        ("caterpillar", "cat"),
        ("bird", "cat"),
    ],
)
def test_the_edit_subject_differs_from_the_initial_word(word, subject):
    assert DOMAINS["animals"].subject_for(word) == subject
    assert edit_prompt(subject) == f"{subject} in {{}}"


@pytest.mark.parametrize("templates", [(), ("no place",), ("{} and {}",)])
def test_a_template_contains_the_pseudo_word_once(templates):
    with pytest.raises(ValidationError):
        Domain(name="x", initial_words=("x",), templates=templates)


def of_yaml(text: str) -> Domain:
    values = yaml.safe_load(text)
    return load_settings("laptop", None, {"domain": "mine", "domains": {"mine": values}}).selected_domain


def test_a_user_domain_needs_only_an_initial_word():
    assert of_yaml("initial_word: ship") == Domain(name="mine", initial_words=("ship",))
    art = of_yaml("{initial_words: [sketch, drawing], templates: art, edit_subject: dog}")
    assert art.templates == ART_TEMPLATES
    assert [art.subject_for(w) for w in ("sketch", "dog")] == ["dog", "car"]
    own = of_yaml("{initial_word: ' oil  lamp', templates: ['a {}', 'the {}']}")
    assert (own.initial_word, own.templates) == ("oil lamp", ("a {}", "the {}"))
    assert of_yaml("{initial_word: a, templates: object}").templates == OBJECT_TEMPLATES


@pytest.mark.parametrize(
    ("text", "output"),
    [
        (
            "{initial_word: a, template: art}",
            "'domains.mine.template'; did you mean 'templates'",
        ),
        ("{initial_word: a, templates: arts}", "'arts'; known: object, art"),
        ("{initial_word: a, templates: []}", "needs at least one template"),
        ("{initial_word: a, templates: ['a photo']}", "template 'a photo'"),
        ("{initial_word: a, templates: ['{} {}']}", "template '{} {}'"),
        ("{initial_word: a, initial_words: [b]}", "initial_word and initial_words"),
        ("{initial_words: []}", "needs at least one initial word"),
        ("{initial_words: [a, ' ']}", "initial_word ' '"),
        ("{initial_words: [a, A]}", "repeated initial word"),
        ("{initial_word: a, edit_subject: ''}", "edit_subject ''"),
        ("{initial_word: a, edit_subject: 'a {}'}", "edit_subject 'a {}'"),
        ("{initial_word: a, edit_subject: car}", "'car' as both"),
        ("{initial_word: cat car}", "'cat car'"),
        ("{templates: art}", "'domains.mine.initial_words'"),
        ("{initial_word: 5}", "'domains.mine.initial_words.0'"),
        ("word", "'domains.mine'"),
    ],
)
def test_an_invalid_domain_is_reported_in_one_line(text, output):
    with pytest.raises(SettingsError) as caught:
        of_yaml(text)
    assert output in str(caught.value)
    assert "\n" not in str(caught.value)


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@given(
    words=st.lists(WORDS, min_size=1, max_size=4),
    templates=st.lists(st.tuples(WORDS, WORDS).map("{}".join), min_size=1, max_size=3)
    | st.sampled_from(["art"]),
    subjects=st.tuples(WORDS, WORDS),
)
def test_any_domain_is_read_as_written_or_refused_in_one_line(words, templates, subjects):
    output = {
        "initial_words": words,
        "templates": templates,
        "edit_subject": subjects[0],
        "other_subject": subjects[1],
    }
    text = yaml.safe_dump(output)
    try:
        domain = of_yaml(text)
    except SettingsError as error:
        assert "\n" not in str(error)
        return
    assert domain.initial_words == tuple(" ".join(word.split()) for word in words)
    assert domain.templates == (ART_TEMPLATES if templates == "art" else tuple(templates))
    assert all(template.count("{}") == 1 for template in domain.templates)
    for word in domain.initial_words:
        requested = domain.subject_for(word)
        assert requested.lower() != word.lower()
        assert edit_prompt(requested).count("{}") == 1
    again = AuditSettings.model_validate_json(
        AuditSettings(domain="mine", domains={"mine": domain}).model_dump_json()
    )
    assert again.selected_domain == domain


def test_the_vocabulary_contains_every_word_of_the_templates():
    words = set(vocabulary())
    assert {"photo", "shape", "house", "cat", "artwork", "in"} <= words
    assert all(w == w.lower() for w in words)
