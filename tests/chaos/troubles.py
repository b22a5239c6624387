"""Makes each kind of trouble, and ends it again."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress

import psutil

from tests.chaos.damage import damage
from tests.chaos.schedule import DAMAGE, LOCAL_RAY, STORE_FAULTS, Event
from tests.chaos.stage import COLLECTION, Stage
from tests.chaos.starts import Starts
from tests.support.failing_proxy import FaultyProxy

Undo = Callable[[], None]


class Troubles:
    """The troubles of one schedule."""

    def __init__(self, stage: Stage, starts: Starts, dice: random.Random) -> None:
        self._stage = stage
        self._starts = starts
        self._dice = dice
        self._nodes_in_trouble = 0
        self._begin: dict[str, Callable[[], Undo | None]] = {
            "kill worker": lambda: self._kill(self._workers()),
            "kill decoder": lambda: self._kill(self._decoders()),
            "kill raylet": lambda: self._of_a_node(self._kill(self._raylets())),
            "kill driver": lambda: self._signal(signal.SIGKILL),
            "stop driver": lambda: self._signal(signal.SIGTERM),
            "stop driver twice": lambda: self._signal(signal.SIGTERM, signal.SIGINT),
            "interrupt driver": lambda: self._signal(signal.SIGINT),
            "lose node": lambda: self._of_a_node(self._lose_node()),
            LOCAL_RAY: self._kill_local_ray,
            "kill store": self._kill_store,
            "suspend driver": self._suspend_driver,
            "suspend worker": lambda: self._suspend(self._workers(), below=True),
            "suspend raylet": lambda: self._of_a_node(self._suspend(self._raylets(), below=False)),
            "suspend machine": lambda: self._of_a_node(self._suspend(self._raylets(), below=True)),
            "blind node": lambda: self._hide([1 + dice.choice(stage.nodes)]),
            "hide collection": lambda: self._hide(range(len(stage.proxies))),
            "second start": lambda: self._start_another("1/1"),
            "overlapping starts": lambda: self._start_another(f"{dice.randint(1, 2)}/2"),
            DAMAGE: self._damage,
        }

    def begin(self, event: Event) -> Undo | None:
        """Makes trouble; returns what ends it, or None if there was nothing to disturb."""
        if event.what not in STORE_FAULTS:
            with suppress(psutil.Error):  # the process has just ended
                return self._begin[event.what]()
            return None
        proxies = self._stage.proxies
        for proxy in proxies:
            proxy.fault(seed=self._dice.randrange(2**32), **STORE_FAULTS[event.what])
        return lambda: _heal(proxies)

    def refill(self) -> None:
        """Replaces nodes that the cluster has given up, unless their loss is the trouble under way."""
        if not self._nodes_in_trouble:
            self._stage.refill()

    def _of_a_node(self, undo: Undo | None) -> Undo | None:
        if undo is None:
            return None
        self._nodes_in_trouble += 1

        def end() -> None:
            undo()
            self._nodes_in_trouble -= 1
            self.refill()

        return end

    def _hide(self, proxies: Iterable[int]) -> Undo:
        hidden = [self._stage.proxies[number] for number in proxies]
        for proxy in hidden:
            proxy.fault("error", status=404, name=f"/{COLLECTION}")
        return lambda: _heal(hidden)

    def _raylets(self) -> list[psutil.Process]:
        return [self._stage.raylet(number) for number in self._stage.nodes]

    def _workers(self) -> list[psutil.Process]:
        below = (child for raylet in self._raylets() for child in raylet.children())
        return [process for process in below if "ray::Worker" in _title(process)]

    def _decoders(self) -> list[psutil.Process]:
        below = (child for worker in self._workers() for child in worker.children())
        return [process for process in below if "cluster.inputs.decoder" in _title(process)]

    def _kill(self, processes: list[psutil.Process]) -> Undo | None:
        if not processes:
            return None
        self._dice.choice(processes).kill()
        return _nothing

    def _suspend(self, processes: list[psutil.Process], below: bool) -> Undo | None:
        if not processes:
            return None
        chosen = self._dice.choice(processes)
        asleep = [chosen, *(chosen.children(recursive=True) if below else ())]
        for process in asleep:
            process.suspend()
        return lambda: self._wake(asleep)

    def _wake(self, asleep: list[psutil.Process]) -> None:
        for process in asleep:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _signal(self, *signals: signal.Signals) -> Undo | None:
        start = self._starts.newest()
        if start is None or not start.signal(*signals):
            return None
        return _nothing

    def _suspend_driver(self) -> Undo | None:
        """A second driver is started meanwhile, as no driver is running."""
        start = self._starts.newest()
        if start is None:
            return None
        start.suspend()
        return start.resume

    def _start_another(self, shard: str) -> Undo | None:
        if self._starts.newest() is None:
            return None
        self._starts.begin(shard)
        return _nothing

    def _kill_local_ray(self) -> Undo | None:
        """Kills its raylet or its GCS; the driver lives, and neither is started again."""
        start = self._starts.newest()
        below = psutil.Process(start.process.pid).children(recursive=True) if start else []
        if not any("ray::Worker" in _title(process) for process in below):
            return None  # while Ray starts, it would be started once more
        undo = self._kill([process for process in below if process.name() in ("raylet", "gcs_server")])
        self._starts.local = undo is None
        return undo

    def _lose_node(self) -> Undo | None:
        if len(self._stage.nodes) < 2:
            return None
        self._stage.lose(self._dice.choice(self._stage.nodes))
        return _nothing

    def _kill_store(self) -> Undo:
        self._stage.gateway.kill()
        return self._stage.gateway.start

    def _damage(self) -> Undo | None:
        self._stage.gateway.start()
        store = self._stage.store(self._starts.output)
        if next(store.list("records"), None) is None:
            return None
        self._starts.kill()
        damage(store, self._dice)
        return _nothing


def _heal(proxies: Iterable[FaultyProxy]) -> None:
    for proxy in proxies:
        proxy.heal()


def _nothing() -> None:
    """Ends a trouble that needs no undoing."""


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
