"""Prompts: what is said around a pseudo-word, and the domains that decide it (paper Sections 4.2, E.2).

A *domain* names the words that pseudo-tokens may start from, the templates of training, and the subject that
is asked for in a scene of the learned concept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator

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
"""Our choice for the world of shapes: none of its words is one of the captions' attributes."""

REDRAW_PROMPT = "a photo of {}"
"""The prompt of the 20 redraws (Appendix E.2)."""


TEMPLATES = {"object": OBJECT_TEMPLATES, "art": ART_TEMPLATES}
"""Templates that a domain may take by name."""


class WordMissing(ItemFault, ValueError):  # noqa: N818 - it says what is missing
    """Nothing says which of its domain's words an image's pseudo-tokens start from."""


def _is_said(words: str, info: ValidationInfo) -> str:
    said = " ".join(words.split())
    if not said or "{}" in said:
        field = str(info.field_name).removesuffix("s")
        raise ValueError(f"domain {info.data.get('name')!r}: {field} {words!r} is no word")
    return said


Word = Annotated[str, AfterValidator(_is_said)]
"""What can be said in a prompt: one word, or some with a space between them."""


def edit_prompt(subject: str) -> str:
    """ "cat in {}": the subject in a scene of the concept (Section 3.1, editability)."""
    return f"{subject} in {{}}"


class Domain(BaseModel):
    """How one kind of image is spoken of. ``initial_word: house`` is short for a single one, and templates
    may be one of TEMPLATES by name; left out, they are the object templates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Decides.NOTHING]
    initial_words: Annotated[tuple[Word, ...], Decides.METHOD]
    """All pseudo-tokens of an image start at the embedding of one of these (Table 1): its own word in the
    list of images, if it has one there, else the one that CLIP finds most likely."""
    templates: Annotated[tuple[str, ...], Decides.METHOD] = OBJECT_TEMPLATES
    """Training prompts; ``{}`` stands for the pseudo-word."""
    edit_subject: Annotated[Word, Decides.METHOD] = "cat"
    """Asked for in a scene of the concept: "cat in S*" (Section 4.2)."""
    other_subject: Annotated[Word, Decides.VERDICT] = "car"
    """Asked for in its place where the initial word is the edit subject, as "cat in S*" tests nothing of a
    cat. Our choice."""

    @property
    def initial_word(self) -> str:
        """The only one.

        Raises:
            WordMissing: there are several.
        """
        if len(self.initial_words) > 1:
            words = ", ".join(self.initial_words)
            raise WordMissing(f"domain {self.name!r} has several words ({words}), and nothing says which")
        return self.initial_words[0]

    def subject_for(self, word: str) -> str:
        """What is asked for in a scene of a concept that starts from ``word``."""
        return self.other_subject if _holds(word, self.edit_subject) else self.edit_subject

    @model_validator(mode="before")
    @classmethod
    def _as_people_write_it(cls, given: Any) -> Any:
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
                raise ValueError(f"{what}: templates {templates!r} are none of {known}; or write a list")
            domain["templates"] = TEMPLATES[templates]
        return domain

    @field_validator("templates")
    @classmethod
    def _each_has_one_place(cls, templates: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        what = f"domain {info.data.get('name')!r}"
        if not templates:
            raise ValueError(f"{what} needs at least one template")
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"{what}: template {template!r} must hold {{}} exactly once")
        return templates

    @model_validator(mode="after")
    def _words_can_be_told_apart(self) -> Self:
        what = f"domain {self.name!r}"
        if not self.initial_words:
            raise ValueError(f"{what} needs at least one initial word")
        if len({word.lower() for word in self.initial_words}) < len(self.initial_words):
            raise ValueError(f"{what} has an initial word twice; write it once")
        if _holds(self.edit_subject, self.other_subject) or _holds(self.other_subject, self.edit_subject):
            raise ValueError(f"{what} has no other subject than {self.edit_subject!r}; write other_subject")
        for word in self.initial_words:
            if _holds(word, subject := self.subject_for(word)):
                raise ValueError(
                    f"{what} asks for a {subject} in a scene of a {word}, which tests nothing; write another "
                    "edit_subject or other_subject"
                )
        return self


def _holds(word: str, subject: str) -> bool:
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
    """A domain's name and what it decides, in a phrase: "artwork (painting, templates of art)"."""
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
