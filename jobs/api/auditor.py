"""Judging single images from Python, with the audit's own code and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from jobs.api.images import ImageLike, Reader, Unusable
from jobs.api.verdict import Verdict
from jobs.auditing.verdict_table import blank
from jobs.auditing.weights_here import copies_here
from originality.contract.config import SettingsError
from originality.contract.faults import ItemFault
from originality.contract.scorer import Finished, Item
from originality.contract.settings_files import merged
from originality.evaluation.distance import Distance
from originality.settings import extensions
from originality.settings.audit import AuditSettings
from originality.settings.parts import DistanceSettings
from originality.settings.presets import load_settings, validated
from originality.sweep.preflight import preflight
from originality.sweep.sweep import Sweep


class Auditor:
    """One loaded model that judges images, to the same verdicts as ``originality audit`` on this machine.

    For a few images or thousands; for millions, or several GPUs, use the command. Not for use by several
    threads at once.
    """

    def __init__(
        self,
        preset: str | None = None,
        *,
        settings: AuditSettings | Mapping[str, Any] | str | Path | None = None,
        model: str | None = None,
        device: str | None = None,
        metric: str | Distance | None = None,
        domain: str | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
    ) -> None:
        """Load the model and what judges its redraws.

        Args:
            preset: named settings, as ``--preset``: "laptop" (the default), "paper", "fast", ...
            settings: over the preset: nested values as in a YAML file, the path of one, or whole settings.
            model: a diffusers folder, a single file, a name on the hub or a bucket's prefix, as ``--model``.
            device: "auto", "cpu" or "cuda".
            metric: the distance: "dreamsim", "elements", "imagenet" or that of an installed package; or an
                object with the methods of :class:`originality.evaluation.distance.Distance`, whose attribute
                ``threshold`` is the default of ``distance.threshold``.
            domain: what the images show, as ``--domain``.
            max_tokens: most tokens that are tried, as ``--max-tokens``.
            seed: of every random number.

        Raises:
            SettingsError: with the fix; so do StoreError and FetchError, where weights cannot be brought.
        """
        if metric is not None and not isinstance(metric, str):
            metric = _registered(metric)
        over: dict[str, Any] = {"model": {"path": model, "device": device}, "distance": {"metric": metric}}
        over |= {"domain": domain, "max_tokens": max_tokens, "seed": seed}
        self.settings = _settings(preset, settings, _without_none(over))
        copies = copies_here(self.settings)
        preflight(self.settings, copies)
        self._sweep = Sweep(self.settings, copies)
        self._blank = blank(self.settings)
        self._reader = Reader()
        self._waiting: dict[str, list[tuple[int, dict[int, Verdict]]]] = {}
        """By id of the images in the model: where their verdict goes. Equal images are judged once, and a
        call may come while the results of another one are still being consumed."""

    def judge(self, image: ImageLike, word: str | None = None) -> Verdict:
        """The verdict of one image. One that cannot be read or decoded is "rejected", and says why.

        Args:
            image: a path, a URI (s3://, gs://, az://), the bytes of a file, a PIL image, or an array uint8
                (height, width[, 3 or 4]).
            word: the image's own initial word, as a list's column ``word``.
        """
        return next(self.judge_many([image], [word]))

    def judge_many(
        self, images: Iterable[ImageLike], words: Iterable[str | None] | None = None
    ) -> Iterator[Verdict]:
        """The verdicts of several images, in their order. They share passes through the model, which is
        faster than one after the other; no image's numbers depend on its neighbours.

        Args:
            words: an initial word for each image, or None.
        """
        pairs = ((image, None) for image in images) if words is None else zip(images, words, strict=True)
        queue = enumerate(pairs)
        found: dict[int, Verdict] = {}
        taken, due, exhausted = 0, 0, False
        try:
            while not exhausted or due < taken:
                while not exhausted and len(self._waiting) < self._sweep.capacity:
                    entry = next(queue, None)
                    if entry is None:
                        exhausted = True
                        break
                    place, (image, word) = entry
                    self._admit(place, image, word, found)
                    taken += 1
                while due in found:
                    yield found.pop(due)
                    due += 1
                if due < taken or len(self._waiting) >= self._sweep.capacity:
                    self._step()
        finally:  # left early: what only this call waits for must not share later passes
            for image_id, waiting in list(self._waiting.items()):
                waiting[:] = [(place, verdicts) for place, verdicts in waiting if verdicts is not found]
                if not waiting:
                    del self._waiting[image_id]
                    self._sweep.drop(image_id)

    def _step(self) -> None:
        for finished in self._sweep.step():
            verdict = _verdict(finished)
            for place, found in self._waiting.pop(finished.item_id):
                found[place] = verdict

    def _admit(self, place: int, image: ImageLike, word: str | None, found: dict[int, Verdict]) -> None:
        """Start an image, or gives its verdict at once; ``found`` gets the verdict at ``place``."""
        try:
            image_id, pixels = self._reader.read(image)
        except Unusable as error:
            found[place] = self._not_judged(error.image_id, "rejected", error.code, error.message)
            return
        if image_id in self._waiting:
            self._waiting[image_id].append((place, found))
            return
        try:
            self._sweep.admit(Item[Image.Image](image_id, pixels, {"word": word} if word is not None else {}))
        except ItemFault as error:
            found[place] = self._not_judged(image_id, "failed", type(error).__name__, str(error))
            return
        self._waiting[image_id] = [(place, found)]

    def _not_judged(self, image_id: str, status: str, code: str, message: str) -> Verdict:
        row = {"image_id": image_id, "status": status, "error_class": code, "error_message": message}
        return Verdict({**self._blank, **row}, lambda name: None)

    def close(self) -> None:
        """End the process that decodes images. The auditor can be used again all the same."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Auditor of {self.settings.model.path} on {self._sweep.model.device}>"


def _registered(metric: Distance) -> str:
    """The name by which the settings know a metric that is an object of the caller's."""

    def factory(settings: DistanceSettings, device: Any) -> Distance:
        return metric

    factory.threshold = getattr(metric, "threshold", None)  # type: ignore[attr-defined]
    if metric.name in extensions.BUILT_IN[extensions.METRICS]:
        raise SettingsError(f"the metric's name {metric.name!r} is that of a built-in one; rename it")
    extensions.register(extensions.METRICS, metric.name, factory)
    return metric.name


def _settings(
    preset: str | None, settings: AuditSettings | Mapping[str, Any] | str | Path | None, over: dict[str, Any]
) -> AuditSettings:
    if isinstance(settings, AuditSettings):
        if preset is not None:
            raise TypeError("give a preset or whole settings, not both")
        return validated(merged(settings.model_dump(), over)) if over else settings
    if isinstance(settings, (str, Path)):
        return load_settings(preset, Path(settings), over)
    return load_settings(preset, None, merged(settings or {}, over))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {k: _without_none(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}
    return {k: v for k, v in found.items() if v != {}}


def _verdict(finished: Finished) -> Verdict:
    return Verdict(finished.record, finished.files.get)
