"""Engine settings. They affect cost and speed, and which images are refused as too large; never a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from cluster.inputs.images import Limits
from cluster.ray_runtime.accelerators import NVIDIA, PRICES, is_known
from originality.contract.config import Frozen, nearest

REJECTS = "rejected inputs"
"""Mark of a setting that decides which inputs are rejected. All others decide cost and speed alone."""


class ClusterSettings(Frozen):
    """Workers, their machines, and when to stop. They may change whenever a run is resumed."""

    min_workers: int = Field(1, ge=1)
    """Workers hired at the start, or as many as Ray has room for already if that is more. Further ones
    are hired once the first is ready, so that a mistake in the settings does not start a hundred
    machines.

    Unit: workers. Source: our choice."""
    max_workers: int | None = Field(None, ge=1)
    """Most workers at a time. None: as many as Ray has room for when the run starts. For a larger number
    Ray's autoscaler is asked to start machines.

    Unit: workers. Source: our choice."""
    gpus_per_worker: float = Field(1.0, gt=0)
    """GPUs of a worker where there are any. With a fraction, small models share a GPU; each worker still
    plans its memory for the entire GPU and halves its passes if memory runs out. More than 1 has no
    benefit, since a worker uses one GPU.

    Unit: GPUs. Source: our choice."""
    cpus_per_worker: float = Field(1.0, ge=0)
    """CPU cores that Ray reserves for a worker.

    Unit: CPU cores. Source: our choice."""
    accelerators: tuple[str, ...] = ()
    """GPU types that may be used, by Ray's names (L4, A10G). Empty: any. Ray's autoscaler starts machines
    for them only of node types that declare the label ``ray.io/accelerator-type``.

    Source: our choice."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Ray node labels that a worker's machine must have. The autoscaler's node types must declare them.

    Source: our choice."""
    snapshot_every: float = Field(60.0, gt=0)
    """Time between two snapshots of an image in progress: the most work that the death of a worker costs.

    Unit: seconds. Source: our choice."""
    stop_after_failures: int | None = Field(100, ge=1)
    """The run stops after this many images in a row failed, none judged or rejected between them: the
    cause is then not the images but, for example, an expired key. Missing images do not count as
    failed; but this many missing in a row, none read between them, stop the run too, before they are
    recorded. None: never stop.

    Unit: images. Source: our choice."""
    step_limit: float = Field(3600.0, gt=0)
    """A scorer's step, the admission of an image or a snapshot that takes longer than this counts as
    hung, and its worker as dead. Only the images that the worker held are suspected.

    Unit: seconds. Source: our choice."""
    load_limit: float = Field(7200.0, gt=0)
    """Loading the model, including the download of its weights, counts as hung if it takes longer than
    this, and the machine as broken.

    Unit: seconds. Source: our choice."""
    stop_grace: float = Field(25.0, gt=0)
    """How long a stop waits for the current step. An image whose step takes longer resumes from its last
    snapshot.

    Unit: seconds. Source: our choice; Kubernetes' default kills a pod after 30 seconds."""
    max_pixels: Annotated[int, REJECTS] = Field(Limits.pixels, ge=1)
    """Largest image, as width times height. A larger one is rejected as too-large before it is decoded,
    which may take 54 bytes of memory a pixel. ``originality retry --status rejected --reason
    too-large`` puts such images back.

    Unit: pixels. Source: our choice."""
    max_bytes: Annotated[int, REJECTS] = Field(Limits.bytes, ge=1)
    """Largest image file. A larger one is rejected as too-large before it is fetched.

    Unit: bytes. Source: our choice."""
    prices: Mapping[str, float] = Field(default_factory=lambda: PRICES)
    """Price of a worker with one GPU, by type of GPU; "CPU" is a worker without one. For a slice of a GPU
    (MIG) give the slice's price. With ``max_cost``, every kind of machine that may be hired needs a
    price.

    Unit: US dollars an hour. Source: list prices (cluster.ray_runtime.accelerators)."""
    max_cost: float | None = Field(None, gt=0)
    """Cost by ``prices`` at which this start of the run stops and can be resumed. None: no limit.

    Unit: US dollars. Source: our choice."""
    deadline: Annotated[
        datetime | None, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None})
    ] = None
    """When this start of the run stops and can be resumed: a date and time, or a time from now with its
    unit, such as "8h" or "30min". None: no deadline.

    Source: our choice."""

    @property
    def limits(self) -> Limits:
        """Sizes over which an image is rejected before it is decoded."""
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
                f"deadline {given!r} is not a time; write 8h, 30min, or 2030-01-31 18:00"
            ) from error

    @field_validator("deadline")
    @classmethod
    def _is_in_the_future(cls, deadline: datetime | None) -> datetime | None:
        if deadline is None:
            return None
        deadline = deadline.astimezone()
        if deadline <= datetime.now(UTC):
            raise ValueError(f"deadline {deadline:%Y-%m-%d %H:%M %Z} has passed")
        return deadline

    @field_validator("accelerators")
    @classmethod
    def _check_accelerators(cls, accelerators: tuple[str, ...]) -> tuple[str, ...]:
        for name in accelerators:
            if not is_known(name):
                near = {known.lower(): known for known in NVIDIA}.get(name.lower())
                raise ValueError(
                    f"unknown accelerator {name!r}"
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
    def _check_prices(self) -> Self:
        for kind, price in self.prices.items():
            if price < 0:
                raise ValueError(f"the price of {kind} is {price:g}; give US dollars an hour, 0 or more")
            if price == 0 and self.max_cost is not None:
                raise ValueError(f"the price of {kind} is 0, which --max-cost cannot limit; give more than 0")
        return self

    @model_validator(mode="after")
    def _check_min_workers(self) -> Self:
        if self.max_workers is not None and self.min_workers > self.max_workers:
            raise ValueError(f"min_workers {self.min_workers} is over max_workers {self.max_workers}")
        return self

    def unpriced(self, kinds: Iterable[str]) -> str | None:
        """Why ``max_cost`` cannot be enforced for workers on these kinds of machine, as a line for the user.
        None if it can, or is not set."""
        missing = sorted({kind for kind in kinds if kind not in self.prices})
        if self.max_cost is None or not missing:
            return None
        example = ", ".join(f"{kind}: 1.5" for kind in missing)
        return (
            f"no price is known for a worker on {' or '.join(missing)}, so --max-cost cannot be enforced; "
            f"give it in US dollars an hour, e.g. --set cluster.prices='{{{example}}}'"
        )

    def price(self, kind: str, gpus: float) -> float | None:
        """US dollars an hour of one worker on a type of GPU, or on "CPU"; None if unknown."""
        price = self.prices.get(kind)
        return price if price is None or kind == "CPU" else price * gpus


def _from_now(given: str, seconds: float) -> datetime:
    try:
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ValueError(
            f"deadline {given!r} is too far in the future; leave it out for no deadline"
        ) from error
