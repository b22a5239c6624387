"""Workers without processes, for tests of what the driver decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.driver.member import Member
from cluster.ray_runtime.observer_clock import ObserverClock
from tests.support.set_time import SetTime


class Fleet:
    """Stands for the crew."""

    def __init__(self, *nodes: str) -> None:
        """One worker a node, all ready."""
        self.time = SetTime()
        self.clock = ObserverClock(self.time)
        self.members: dict[str, Member] = {}
        self.machines = set(nodes)
        self.most = len(nodes)
        for node in nodes:
            self.add(node)

    def add(self, node: str | None, capacity: int = 2) -> Member:
        name = f"worker-{len(self.members)}-on-{node}"
        actor: Any = None
        member = Member(name, actor, capacity, answered=node is not None, node=node)
        member.hired_at = self.clock.now()
        self.members[name] = member
        return member

    def wait(self, seconds: float) -> None:
        """As a driver that looks at its clock all the time."""
        for _ in range(int(seconds)):
            self.time.seconds += 1
            self.clock.now()

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self.members.values()))

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, node: str) -> Member:
        return next(member for member in self if member.node == node)

    @property
    def ready(self) -> list[Member]:
        return [member for member in self if member.capacity]

    def has_others(self, node: str | None) -> bool:
        return bool(self.machines - {node})

    def let_go(self, member: Member) -> None:
        del self.members[member.name]
