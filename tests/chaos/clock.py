"""A wrong wall clock, for the product's modules in one process. Signatures of requests keep the true time, as
a store refuses others."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, tzinfo
from types import ModuleType

from tests.chaos.limits import ours


def set_forward(seconds: float) -> None:
    """Sets the clock of this process forward or back. Modules that are loaded later see the true time."""

    class Anything(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Wrong(datetime, metaclass=Anything):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=seconds)

    wrong_time = ModuleType("time")
    vars(wrong_time).update(vars(time))
    vars(wrong_time)["time"] = lambda: time.time() + seconds
    for module in ours():
        if vars(module).get("datetime") is datetime:
            vars(module)["datetime"] = Wrong
        if vars(module).get("time") is time:
            vars(module)["time"] = wrong_time
