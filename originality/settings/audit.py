"""All settings of an audit: immutable, validated, each with its unit and source.

A YAML file and command line flags fill the same models; an unknown key is an error that names the nearest
known one. ``paper`` is the published protocol (arXiv 2408.08184, Sections 4.2 and E). What the paper does not
state is marked "our choice". Where Hugging Face's textual_inversion.py, which the paper may have used,
differs, its behaviour is available as a named value.

The docstring below a field is its description in the reference, in the JSON schema and in ``originality
settings``. Its last paragraph states the unit, of a number, and the source of the default.
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
from originality.settings.parts import DistanceSettings, InDistributionSettings, ModelSettings
from originality.settings.redraw import RedrawSettings
from originality.settings.roles import Added, Decides, knobs, nested


class DomainMissing(SettingsError):  # noqa: N818 - named after what is missing
    """No domain is set, and the other settings do not imply one."""


class AuditSettings(Frozen):
    """Settings of one audit: all that decides a verdict."""

    model: ModelSettings = ModelSettings()
    domain: Annotated[str, Decides.METHOD | Decides.TOKENS_NEEDED] = "shapes"
    """The kind of image, which decides the word that pseudo-tokens start from and the training prompts:
    one of ``originality.settings.domains.DOMAINS`` or of ``domains``. It may be left out only with the
    metric "elements", which works on the world of shapes alone.

    Source: paper, Section 4.2; "shapes" is ours."""
    domains: Annotated[Mapping[str, Domain], Decides.METHOD, Added.AFTER_RUNS] = Field(default_factory=dict)
    """Further domains, by name, each with ``initial_word`` or ``initial_words`` and optional templates.

    Source: our choice."""
    max_tokens: Annotated[int, Decides.VERDICT | Decides.COST] = Field(5, ge=1, le=16)
    """The largest number of tokens that is tried. An image that passed with none of them is censored: it
    is reported as more than this ("+" in the paper's Figure 6).

    Unit: tokens. Source: paper, Section 4.2."""
    inversion: InversionSettings = InversionSettings()
    redraw: RedrawSettings = RedrawSettings()
    distance: DistanceSettings = DistanceSettings()
    in_distribution: InDistributionSettings = InDistributionSettings()
    seed: Annotated[int, Decides.VERDICT] = Field(0, ge=0)
    """Seed of all random numbers. Each generator is keyed by (seed, image_id, m, step).

    Unit: none. Source: our choice."""
    calibration: Annotated[Calibration | None, Decides.NOTHING] = None
    """Where the thresholds come from, if ``originality calibrate`` chose them. It is a record, and
    changes no verdict.

    Source: our choice."""

    @property
    def selected_domain(self) -> Domain:
        """The domain that ``domain`` names."""
        return {**DOMAINS, **self.domains}[self.domain]

    @model_validator(mode="before")
    @classmethod
    def _fill_in_domain_names(cls, given: Any) -> Any:
        """Copy each key of ``domains`` into its domain's ``name``, which users do not write twice."""
        domains = given.get("domains") if isinstance(given, Mapping) else None
        if not isinstance(domains, Mapping):
            return given
        named = {n: {"name": n, **d} if isinstance(d, Mapping) else d for n, d in domains.items()}
        return {**given, "domains": named}

    @model_validator(mode="after")
    def _check_domain(self) -> Self:
        known = [*DOMAINS, *self.domains]
        if self.domain not in known:
            raise ValueError(f"domain {self.domain!r} is unknown{nearest(self.domain, known)}")
        return self

    @model_validator(mode="after")
    def _check_positions_need_elements(self) -> Self:
        if self.in_distribution.check == "positions" and self.distance.metric != "elements":
            raise ValueError(
                "in_distribution.check 'positions' works only on the world of shapes; with "
                f"distance.metric {self.distance.metric!r} set in_distribution.check to editability or none"
            )
        return self

    @model_validator(mode="after")
    def _check_domain_is_given(self) -> Self:
        """What the images show cannot be guessed, and every pseudo-token starts from the domain's word. A
        default would silently give wrong verdicts."""
        if "domain" not in self.model_fields_set and self.distance.metric != "elements":
            known = ", ".join(map(described, DOMAINS.values()))
            raise DomainMissing(
                "no domain is set; it decides the training prompts and the word that pseudo-tokens start at. "
                f"Add --domain with what the images show: {known}, "
                "or one of your own, under domains: in a YAML file"
            )
        return self

    def digest(self) -> str:
        """Short digest of everything that decides a verdict. The device is not part of it, as a run may be
        resumed on another kind of machine.

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
