"""Finds out which workers Ray's autoscaler cannot place.

Ray has no public call for that; this reads the state that its own ``ray status`` reads. If the state cannot
be read (in another version of Ray, say), nothing is reported.
"""

from __future__ import annotations

from typing import Any, cast

import ray

_ANSWER_SECONDS = 5


def objection(waiting: int, on_cluster: bool) -> str:
    """Return why none of the workers that wait for a machine will get one, as the end of a sentence; empty
    if no reason is known.

    Args:
        waiting: number of workers.
        on_cluster: as of :func:`cluster.ray_runtime.ray_address.on_cluster`.
    """
    try:
        state = _state()
    except Exception:  # not in Ray's public interface: another version may raise anything
        return ""
    if not state.autoscaler_state_version and on_cluster:
        return "; this Ray has no autoscaler, so one of its machines must become free, or another join"
    if not 0 < waiting <= len(state.infeasible_resource_requests):
        return ""
    return (
        "; Ray's autoscaler has no node type for them: the labels and resources of one must match, and its "
        "max_workers leave room"
    )


def _state() -> Any:
    from ray import _raylet
    from ray.core.generated import autoscaler_pb2

    raylet, messages = cast(Any, _raylet), cast(Any, autoscaler_pb2)  # compiled: mypy sees nothing in them
    client = raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    reply = messages.GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status(timeout_s=_ANSWER_SECONDS))
    return reply.autoscaling_state
