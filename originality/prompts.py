"""Prompts: what is said around a pseudo-word, and the domains that decide it (paper Sections 4.2, E.2).

A *domain* names the word that every pseudo-token starts from, the templates of training, and the prompt
that asks whether the learned concept can be put in a new scene.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

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


class Domain(BaseModel):
    """How one kind of image is spoken of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    initial_word: str
    """Every pseudo-token starts at this word's embedding (Table 1); one token of the model."""
    templates: tuple[str, ...]
    """Training prompts; ``{}`` stands for the pseudo-word."""
    edit_subject: Literal["cat", "car"] = "cat"
    """Put into the scene by the prompt that asks for the concept there (Section 3.1, editability)."""

    @property
    def edit_prompt(self) -> str:
        """ "cat in {}": the subject in a scene of the concept."""
        return f"{self.edit_subject} in {{}}"

    @field_validator("templates")
    @classmethod
    def _each_has_one_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        if not templates:
            raise ValueError("a domain needs at least one template")
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"template {template!r} must hold {{}} exactly once")
        return templates


DOMAINS: dict[str, Domain] = {
    domain.name: domain
    for domain in (
        Domain(name="shapes", initial_word="shape", templates=SHAPES_TEMPLATES),
        Domain(name="houses", initial_word="house", templates=OBJECT_TEMPLATES),
        Domain(name="artwork", initial_word="painting", templates=ART_TEMPLATES),
        Domain(name="animals", initial_word="cat", templates=OBJECT_TEMPLATES, edit_subject="car"),
        Domain(name="sport", initial_word="sport", templates=OBJECT_TEMPLATES),
        Domain(name="people", initial_word="person", templates=OBJECT_TEMPLATES),
    )
}
"""The paper's five domains and the world of shapes. Where an animal's initial word is "cat", "cat in S*"
would test nothing, so that domain asks for a car."""


def vocabulary() -> tuple[str, ...]:
    """Every word of the templates, prompts and initial words, sorted."""
    texts = [t for d in DOMAINS.values() for t in (*d.templates, d.edit_prompt, d.initial_word)]
    texts += [REDRAW_PROMPT, "dog bird"]
    words = {w for text in texts for w in text.replace("{}", " ").replace("-", " ").split()}
    return tuple(sorted(words))
