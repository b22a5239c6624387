"""Every knob of an audit, in one place: frozen, checked, each with its unit and source.

A YAML file and command line flags fill the same models; an unknown key is an error that names the nearest
known one. ``paper`` is the published protocol (arXiv 2408.08184, Sections 4.2 and E). What the paper does not
state is marked "our choice"; where Hugging Face's textual_inversion.py, which the paper may have used, does
it differently, its reading is a named value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from originality.contract.config import Frozen, SettingsError, nearest
from originality.settings.calibrated import Calibration
from originality.settings.domains import DOMAINS, Domain, described
from originality.settings.inversion import InversionSettings
from originality.settings.parts import DistanceSettings, InDistributionSettings, ModelSettings, RedrawSettings
from originality.settings.roles import Added, Decides, knobs, nested


class DomainMissing(SettingsError):  # noqa: N818 - it says what is missing
    """No domain is set, and none follows from the other settings."""


class AuditSettings(Frozen):
    """One audit: the whole of what decides a verdict."""

    model: ModelSettings = ModelSettings()
    domain: Annotated[str, Decides.METHOD | Decides.TOKENS_NEEDED] = "shapes"
    """Initial word and templates: one of originality.settings.domains.DOMAINS or of ``domains``. It may be
    left out only with the metric "elements", which reads nothing but the world of shapes."""
    domains: Annotated[Mapping[str, Domain], Decides.METHOD, Added.AFTER_RUNS] = Field(default_factory=dict)
    """Further domains, by name."""
    max_tokens: Annotated[int, Decides.VERDICT | Decides.COST] = Field(5, ge=1, le=16)
    """The sweep ends here; an image that never passed is censored ("+" in Figure 6)."""
    inversion: InversionSettings = InversionSettings()
    redraw: RedrawSettings = RedrawSettings()
    distance: DistanceSettings = DistanceSettings()
    in_distribution: InDistributionSettings = InDistributionSettings()
    seed: Annotated[int, Decides.VERDICT] = Field(0, ge=0)
    """Every random number is drawn from a generator keyed by (seed, image_id, m, step)."""
    calibration: Annotated[Calibration | None, Decides.NOTHING] = None
    """Where the thresholds come from, if they were calibrated."""

    @property
    def spoken(self) -> Domain:
        """The domain that is meant."""
        return {**DOMAINS, **self.domains}[self.domain]

    @model_validator(mode="before")
    @classmethod
    def _domains_have_their_names(cls, given: Any) -> Any:
        """A domain is written without its name, which stands before it."""
        domains = given.get("domains") if isinstance(given, Mapping) else None
        if not isinstance(domains, Mapping):
            return given
        named = {n: {"name": n, **d} if isinstance(d, Mapping) else d for n, d in domains.items()}
        return {**given, "domains": named}

    @model_validator(mode="after")
    def _domain_exists(self) -> Self:
        known = [*DOMAINS, *self.domains]
        if self.domain not in known:
            raise ValueError(f"domain {self.domain!r} is unknown{nearest(self.domain, known)}")
        return self

    @model_validator(mode="after")
    def _check_can_read_the_images(self) -> Self:
        if self.in_distribution.check == "positions" and self.distance.metric != "elements":
            raise ValueError(
                "in_distribution.check 'positions' reads only elements of the world of shapes; with "
                f"distance.metric {self.distance.metric!r} set in_distribution.check to editability or none"
            )
        return self

    @model_validator(mode="after")
    def _domain_is_chosen(self) -> Self:
        """What images show cannot be guessed, and the domain decides where every pseudo-token starts."""
        if "domain" not in self.model_fields_set and self.distance.metric != "elements":
            known = ", ".join(map(described, DOMAINS.values()))
            raise DomainMissing(
                "no domain is set; it decides the training prompts and the word that pseudo-tokens start at. "
                f"Add --domain with what the images show: {known}, "
                "or one of your own, under domains: in a YAML file"
            )
        return self

    def digest(self) -> str:
        """Short digest of everything that decides a verdict; not of the device, which is the machine's own.

        A setting that was added after the first runs counts only where it is not at its default. Otherwise
        every new setting would change the digest of all runs made before it, and none could be resumed.
        """
        values = self.model_dump(mode="json")
        for knob in knobs(AuditSettings):
            *part, name = knob.path.split(".")
            place = values[part[0]] if part else values
            if knob.decides == Decides.NOTHING or (knob.added and place[name] == knob.default):
                del place[name]
            elif knob.has(Decides.MACHINE):
                place[name] = knob.default  # not omitted: digests of earlier runs contain the default
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def later_defaults() -> dict[str, Any]:
    """Settings that were added after the first runs, at their defaults: what holds for a run from before
    them."""
    return nested((knob.path, knob.default) for knob in knobs(AuditSettings) if knob.added)
