"""How a run is carried out: every knob that decides cost and pace, and no verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Self

from pydantic import Field, field_validator, model_validator

from cluster.inputs.images import Limits
from cluster.ray_runtime.accelerators import NVIDIA, PRICES, is_known
from originality.contract.config import Frozen, nearest


class ClusterSettings(Frozen):
    """Workers, their machines, and when to stop. May differ from resume to resume."""

    min_workers: int = Field(1, ge=1)
    """Hired at once, or as many as Ray has room for already, if these are more; further ones when the first
    is ready, so that a mistake does not start a hundred machines."""
    max_workers: int | None = Field(None, ge=1)
    """Most at once. None: as many as Ray has room for when the run starts. More than that ask Ray's
    autoscaler for machines."""
    gpus_per_worker: float = Field(1.0, gt=0)
    """On a GPU: a fraction lets small models share one (each plans for a whole GPU, and halves passes where
    memory runs out), a whole number above 1 is of no use yet."""
    cpus_per_worker: float = Field(1.0, ge=0)
    accelerators: tuple[str, ...] = ()
    """Ray's names of the GPU types that may be used, e.g. L4, A10G; empty: any. Ray's autoscaler starts
    machines for them only of node types that declare the label ``ray.io/accelerator-type``."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Ray node labels that a worker's machine must have; node types of an autoscaler must declare them."""
    snapshot_every: float = Field(60.0, gt=0)
    """Seconds of work on an image that a death may cost."""
    stop_after_failures: int | None = Field(100, ge=1)
    """Images that fail in a row, with none judged or rejected between them, after which the run stops: it
    is not the images then, but keys that have run out, say. Missing ones do not count; but so many that are
    missing in a row, with none read between them, stop it too, before they are recorded. None: never."""
    step_limit: float = Field(3600.0, gt=0)
    """Seconds after which a step of a scorer, or taking in an image, or a snapshot, that has not ended counts
    as hung, and its worker as dead. Only the images that were in hand are suspected."""
    load_limit: float = Field(7200.0, gt=0)
    """Seconds after which loading the model, the download of weights included, that has not ended counts as
    hung, and its machine as broken."""
    stop_grace: float = Field(25.0, gt=0)
    """Seconds that a stop waits for the step under way; what takes longer goes on from its snapshot."""
    max_pixels: int = Field(Limits.pixels, ge=1)
    """Width times height; larger images are rejected as too-large before they are decoded. Decoding may take
    54 bytes a pixel. ``originality retry --status rejected --reason too-large`` puts such images back."""
    max_bytes: int = Field(Limits.bytes, ge=1)
    """Of an image's file; larger ones are rejected as too-large before they are fetched."""
    prices: Mapping[str, float] = Field(default_factory=lambda: PRICES)
    """US dollars an hour of a worker with one GPU of a type; "CPU" is one without. With ``max_cost``
    every kind that may be hired must have its price. Of a slice of a GPU (MIG), give the slice's."""
    max_cost: float | None = Field(None, gt=0)
    """US dollars by ``prices`` after which this start of the run stops in good order."""
    deadline: datetime | None = None
    """When this start of the run stops in good order: a date and time, or hours from now like "8h"."""

    @property
    def limits(self) -> Limits:
        """What is refused before it is decoded."""
        return Limits(self.max_bytes, self.max_pixels)

    @field_validator("deadline", mode="before")
    @classmethod
    def _hours_from_now(cls, given: object) -> object:
        if isinstance(given, int | float) or (isinstance(given, str) and given.strip().isdigit()):
            raise ValueError(f"deadline {given!r} has no unit; write 8h, 30min, or a date and time")
        if not isinstance(given, str):
            return given
        for unit, seconds in (("h", 3600), ("min", 60), ("d", 86400), ("s", 1)):
            number = given.strip().removesuffix(unit)
            if number != given.strip() and number.replace(".", "", 1).isdigit():
                return _from_now(given, float(number) * seconds)
        try:
            return datetime.fromisoformat(given.strip())
        except ValueError as error:
            raise ValueError(
                f"deadline {given!r} is no time; write 8h, 30min, or 2030-01-31 18:00"
            ) from error

    @field_validator("deadline")
    @classmethod
    def _is_to_come(cls, deadline: datetime | None) -> datetime | None:
        if deadline is None:
            return None
        deadline = deadline.astimezone()
        if deadline <= datetime.now(UTC):
            raise ValueError(f"deadline {deadline:%Y-%m-%d %H:%M %Z} has passed")
        return deadline

    @field_validator("accelerators")
    @classmethod
    def _are_known(cls, accelerators: tuple[str, ...]) -> tuple[str, ...]:
        for name in accelerators:
            if not is_known(name):
                near = {known.lower(): known for known in NVIDIA}.get(name.lower())
                raise ValueError(
                    f"accelerator {name!r} is none that Ray names"
                    + (f"; did you mean {near!r}?" if near else nearest(name, NVIDIA))
                    + "; a label of your own machines goes into cluster.labels"
                )
        return accelerators

    @model_validator(mode="after")
    def _named_accelerators_have_prices(self) -> Self:
        if (problem := self.unpriced(self.accelerators)) is not None:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _prices_count(self) -> Self:
        for kind, price in self.prices.items():
            if price < 0:
                raise ValueError(f"the price of {kind} is {price:g}; give US dollars an hour, 0 or more")
            if price == 0 and self.max_cost is not None:
                raise ValueError(f"the price of {kind} is 0, so --max-cost cannot be kept; give more than 0")
        return self

    @model_validator(mode="after")
    def _min_is_under_max(self) -> Self:
        if self.max_workers is not None and self.min_workers > self.max_workers:
            raise ValueError(f"min_workers {self.min_workers} is over max_workers {self.max_workers}")
        return self

    def unpriced(self, kinds: Iterable[str]) -> str | None:
        """Why ``max_cost`` cannot be kept with workers on these kinds of machine; None where it can, or is
        not set."""
        missing = sorted({kind for kind in kinds if kind not in self.prices})
        if self.max_cost is None or not missing:
            return None
        example = ", ".join(f"{kind}: 1.5" for kind in missing)
        return (
            f"no price is known for a worker on {' or '.join(missing)}, so --max-cost cannot be kept; "
            f"give it in US dollars an hour, e.g. --set cluster.prices='{{{example}}}'"
        )

    def price(self, kind: str, gpus: float) -> float | None:
        """US dollars an hour of one worker on a kind of GPU, or on "CPU"; None where it is not known."""
        price = self.prices.get(kind)
        return price if price is None or kind == "CPU" else price * gpus


def _from_now(given: str, seconds: float) -> datetime:
    try:
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(f"deadline {given!r} is too far off; leave it out for none") from error
