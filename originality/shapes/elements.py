"""The elements of the world of shapes, and their captions (paper Section 2, Appendix B).

An *element* is one coloured shape; an image shows a few of them on white. The 60 elements are the
cross product of five shapes, three colours, two sizes and two textures, and every caption names each
element by the same four words in the same order: "big red full circle and small blue empty square".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Shape = Literal["circle", "square", "triangle", "hexagon", "star"]
Colour = Literal["red", "green", "blue"]
Size = Literal["big", "small"]
Texture = Literal["full", "empty"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLOURS: tuple[Colour, ...] = get_args(Colour)
SIZES: tuple[Size, ...] = get_args(Size)
TEXTURES: tuple[Texture, ...] = get_args(Texture)

CAPTION_WORDS = (*SIZES, *COLOURS, *TEXTURES, *SHAPES, "and")


@dataclass(frozen=True, order=True)
class Element:
    """One of the 60 elements. Its ``str`` is its caption: its four words, size first."""

    size: str
    colour: str
    texture: str
    shape: str

    def __post_init__(self) -> None:
        for value, allowed in zip(
            (self.size, self.colour, self.texture, self.shape),
            (SIZES, COLOURS, TEXTURES, SHAPES),
            strict=True,
        ):
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.texture} {self.shape}"

    @property
    def index(self) -> int:
        """Position of the element in :data:`ELEMENTS`."""
        return ELEMENT_INDEX[self]


ELEMENTS: tuple[Element, ...] = tuple(
    Element(size, colour, texture, shape)
    for size, colour, texture, shape in itertools.product(SIZES, COLOURS, TEXTURES, SHAPES)
)
ELEMENT_INDEX = {element: index for index, element in enumerate(ELEMENTS)}


def caption_of(elements: Iterable[Element]) -> str:
    """The caption of elements in the order given; an empty image has the empty caption."""
    return " and ".join(str(element) for element in elements)


def elements_of(caption: str) -> tuple[Element, ...]:
    """Parse a caption into its elements.

    Raises:
        ValueError: the text is not such a caption; the message names the part that is wrong.
    """
    if not caption.strip():
        return ()
    elements = []
    for part in caption.strip().split(" and "):
        words = part.split()
        if len(words) != 4:
            raise ValueError(f"{part!r} is not an element; write it as 'size colour texture shape'")
        elements.append(Element(*words))
    return tuple(elements)


def select(
    shapes: Sequence[str] = SHAPES,
    colours: Sequence[str] = COLOURS,
    sizes: Sequence[str] = SIZES,
    textures: Sequence[str] = TEXTURES,
) -> tuple[Element, ...]:
    """Elements whose features all have one of the given values, in the order of ELEMENTS."""
    return tuple(
        e
        for e in ELEMENTS
        if e.shape in shapes and e.colour in colours and e.size in sizes and e.texture in textures
    )
