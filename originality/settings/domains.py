"""Prompts around a pseudo-word, and the domains that define them (paper, Sections 4.2 and E.2).

A *domain* is one kind of image. It defines the words that pseudo-tokens may start from, the templates of the
training prompts, and the subject of the edit prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, ValidationInfo, field_validator, model_validator

from originality.contract.config import Frozen
from originality.contract.faults import ItemFault
from originality.settings.roles import Decides

OBJECT_TEMPLATES = (
    *(
        f"a {adjective}photo of {article} {noun}{{}}".replace("  ", " ")
        for adjective, article, noun in (
            ("", "a", ""),
            ("", "the", ""),
            ("", "one", ""),
            ("", "my", ""),
            ("", "a", "clean "),
            ("", "the", "clean "),
            ("", "a", "dirty "),
            ("", "a", "nice "),
            ("", "the", "nice "),
            ("", "a", "cool "),
            ("", "the", "cool "),
            ("", "a", "small "),
            ("", "the", "small "),
            ("", "the", "large "),
            ("", "the", "weird "),
            ("cropped ", "a", ""),
            ("cropped ", "the", ""),
            ("close-up ", "a", ""),
            ("close-up ", "the", ""),
            ("good ", "a", ""),
            ("good ", "the", ""),
            ("bright ", "the", ""),
            ("dark ", "the", ""),
        )
    ),
    "the photo of a {}",
    "a rendering of a {}",
    "a rendition of a {}",
    "a rendition of the {}",
)
"""The 27 object templates of textual inversion (Gal et al. 2022), used for every domain but art."""

ART_TEMPLATES = (
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
)
"""The paper's 20 templates for art (Appendix E.2)."""

SHAPES_TEMPLATES = (
    "a photo of {}",
    "the photo of {}",
    "a picture of {}",
    "the picture of {}",
    "an image of {}",
    "the image of {}",
    "a drawing of {}",
    "a rendering of {}",
    "a good photo of {}",
    "a good picture of {}",
    "a nice drawing of {}",
    "a clean image of {}",
)
"""Our choice for the world of shapes. No word in them is an attribute in captions of that world, so that the
prompts say nothing about the image."""

REDRAW_PROMPT = "a photo of {}"
"""The prompt of the 20 redraws (Appendix E.2)."""


TEMPLATES = {"object": OBJECT_TEMPLATES, "art": ART_TEMPLATES}
"""Lists of templates that a domain may name."""


class WordMissing(ItemFault, ValueError):  # noqa: N818 - named after what is missing
    """The domain has several initial words, and which one an image's pseudo-tokens start from is unknown."""


def _checked_word(words: str, info: ValidationInfo) -> str:
    word = " ".join(words.split())
    if not word or "{}" in word:
        field = str(info.field_name).removesuffix("s")
        raise ValueError(f"domain {info.data.get('name')!r}: {field} {words!r} is not a word")
    return word


Word = Annotated[str, AfterValidator(_checked_word)]
"""Text for a place in a prompt: one word, or several separated by single spaces."""


def edit_prompt(subject: str) -> str:
    """ "cat in {}": the subject in a scene of the concept (Section 3.1, editability)."""
    return f"{subject} in {{}}"


def _as_written(schema: dict[str, Any]) -> None:
    """Make the JSON schema that of a settings file, where a domain has short forms and no name."""
    properties = schema["properties"]
    del properties["name"]
    properties["initial_word"] = {"type": "string", "description": "A single initial word."}
    listed = properties["templates"]
    of_list = {"type": listed.pop("type"), "items": listed.pop("items")}
    listed["anyOf"] = [of_list, {"enum": list(TEMPLATES)}]
    del schema["required"]


class Domain(Frozen):
    """Words and prompts for one kind of image. ``initial_word: house`` is short for a list of one word, and
    ``templates`` may be a name of TEMPLATES; if left out, they are the object templates."""

    model_config = ConfigDict(json_schema_extra=_as_written)

    name: Annotated[str, Decides.NOTHING]
    """In a settings file, the key of the domain below ``domains``."""
    initial_words: Annotated[tuple[Word, ...], Decides.METHOD]
    """All pseudo-tokens of an image start at the embedding of one of these words (Table 1): the image's
    own word in the list of images if it has one, else the one that CLIP finds most likely."""
    templates: Annotated[tuple[str, ...], Decides.METHOD] = OBJECT_TEMPLATES
    """Training prompts; ``{}`` stands for the pseudo-word."""
    edit_subject: Annotated[Word, Decides.METHOD] = "cat"
    """Subject of the edit prompt: "cat in S*" (Section 4.2)."""
    other_subject: Annotated[Word, Decides.VERDICT] = "car"
    """Subject of the edit prompt of images whose initial word is the edit subject: "cat in S*" tests
    nothing if the concept is a cat. Our choice."""

    @property
    def initial_word(self) -> str:
        """The domain's only initial word.

        Raises:
            WordMissing: it has several.
        """
        if len(self.initial_words) > 1:
            words = ", ".join(self.initial_words)
            raise WordMissing(
                f"domain {self.name!r} has several words ({words}), and the image names none of them"
            )
        return self.initial_words[0]

    def subject_for(self, word: str) -> str:
        """Subject of the edit prompt for an image whose pseudo-tokens start from ``word``."""
        return self.other_subject if _holds(word, self.edit_subject) else self.edit_subject

    @model_validator(mode="before")
    @classmethod
    def _expand_short_forms(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        domain = dict(given)
        what = f"domain {domain.get('name')!r}"
        if "initial_word" in domain:
            if "initial_words" in domain:
                raise ValueError(f"{what} has initial_word and initial_words; write one of them")
            domain["initial_words"] = (domain.pop("initial_word"),)
        templates = domain.get("templates")
        if isinstance(templates, str):
            if templates not in TEMPLATES:
                known = ", ".join(TEMPLATES)
                raise ValueError(f"{what}: unknown templates {templates!r}; known: {known}; or write a list")
            domain["templates"] = TEMPLATES[templates]
        return domain

    @field_validator("templates")
    @classmethod
    def _check_templates(cls, templates: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        what = f"domain {info.data.get('name')!r}"
        if not templates:
            raise ValueError(f"{what} needs at least one template")
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"{what}: template {template!r} must contain {{}} exactly once")
        return templates

    @model_validator(mode="after")
    def _check_words(self) -> Self:
        what = f"domain {self.name!r}"
        if not self.initial_words:
            raise ValueError(f"{what} needs at least one initial word")
        if len({word.lower() for word in self.initial_words}) < len(self.initial_words):
            raise ValueError(f"{what} has a repeated initial word; write it once")
        if _holds(self.edit_subject, self.other_subject) or _holds(self.other_subject, self.edit_subject):
            raise ValueError(
                f"{what} uses {self.edit_subject!r} as both subjects; write a different other_subject"
            )
        for word in self.initial_words:
            if _holds(word, subject := self.subject_for(word)):
                raise ValueError(
                    f"{what} uses the edit subject {subject!r} for the word {word!r}, which tests nothing; "
                    "write a different edit_subject or other_subject"
                )
        return self


def _holds(word: str, subject: str) -> bool:
    """Whether ``word`` contains all words of ``subject``: "tabby cat" contains "cat"."""
    return set(subject.lower().split()) <= set(word.lower().split())


DOMAINS: dict[str, Domain] = {
    domain.name: domain
    for domain in (
        Domain(name="shapes", initial_words=("shape",), templates=SHAPES_TEMPLATES),
        Domain(name="houses", initial_words=("house",)),
        Domain(name="artwork", initial_words=("painting",), templates=ART_TEMPLATES),
        Domain(name="animals", initial_words=("dog", "cat", "bird")),
        Domain(name="sport", initial_words=("sport",)),
        Domain(name="people", initial_words=("person",)),
    )
}
"""The world of shapes and the paper's five domains, with the words of Table 1."""


def described(domain: Domain) -> str:
    """A domain's name, initial words and templates: "artwork (painting, templates of art)"."""
    kinds = {OBJECT_TEMPLATES: "objects", ART_TEMPLATES: "art", SHAPES_TEMPLATES: "shapes"}
    templates = f"templates of {kinds.get(domain.templates, 'its own')}"
    return f"{domain.name} ({' or '.join(domain.initial_words)}, {templates})"


def vocabulary() -> tuple[str, ...]:
    """Every word of the templates, prompts and initial words, sorted."""
    texts = [text for d in DOMAINS.values() for text in (*d.templates, *d.initial_words)]
    texts += [edit_prompt(subject) for d in DOMAINS.values() for subject in (d.edit_subject, d.other_subject)]
    texts.append(REDRAW_PROMPT)
    words = {w for text in texts for w in text.replace("{}", " ").replace("-", " ").split()}
    return tuple(sorted(words))
