"""Log lines of a worker: Ray keeps what a worker writes to stderr, in a file on the worker's node."""

from __future__ import annotations

import logging
import sys

import ray

from originality.contract.log_lines import PlainLines, log_to


def log_on_node(level: str) -> None:
    """Send log lines to stderr, with the node and the GPUs of this actor.

    Does nothing in a process that is no Ray actor, as its log handlers belong to the command that runs there.
    """
    if not ray.is_initialized():
        return
    context = ray.get_runtime_context()
    if context.get_actor_id() is None:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainLines(gpu=",".join(context.get_accelerator_ids().get("GPU", []))))
    log_to(handler, level)
