"""Requests to a store: bounded in time, and retried while the store is out.

A bucket that does not answer is retried for minutes: an outage of the store must not end a run. A request
whose answer never completes is cut off after a bound.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from cluster.storage.bounds import call_within
from cluster.storage.store_contact import Contact
from cluster.storage.store_errors import Outage, Refused, StoreError, Unreachable, driver_errors

MOUNT_SECONDS = 300.0
"""Bound on a request to a local folder, which may be on a file server that restarts, and on opening a store,
which may have to fetch credentials."""
REQUEST_SECONDS = 120.0
"""Bound on a request to a bucket, beside the time that its bytes take. obstore's own timeout bounds the
silence between two bytes, but not an answer that arrives byte by byte."""
HURRY_SECONDS = 10.0
"""Patience, and bound on one request, once an outage has ended the work and only cleanup is left."""
_LONGEST_PAUSE_SECONDS = 15.0

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Requests:
    """Sends requests to one store, and retries them while it is out."""

    def __init__(self, url: str, contact: Contact | None, patience: float) -> None:
        """
        Args:
            contact: what is known of a bucket's service; None for a local folder.
            patience: seconds for which requests are retried during an outage.
        """
        self._url = url
        self._contact = contact
        self._patience = patience
        self._hurries = False

    def hurry(self) -> None:
        """From now on retry for seconds only: for the cleanup that is left after an outage."""
        self._hurries = True
        self._patience = min(self._patience, HURRY_SECONDS)

    def send(self, path: str, call: Callable[[], T], size: int = 0) -> T:
        """The answer to a request, which is retried while the store is out.

        Args:
            path: of the object, for error messages.
            call: makes the request. It runs in a helper thread; one that exceeded its bound may still be
                running when the request is made again.
            size: bytes that it sends, or fetches in one go.

        Raises:
            Outage: the store was out for longer than the patience.
        """
        out_since = None
        longest = 0.1
        while True:
            try:
                return self._attempt(path, call, size)
            except Unreachable as outage:
                # Before the first answer ever, an unknown host is a mistyped endpoint: retrying for minutes
                # would only delay the error message.
                if self._contact and not self._contact.answered:
                    raise StoreError(str(outage)) from outage
                error: StoreError = outage
            except Outage as outage:
                error = outage
            except Refused as refusal:
                if self._contact is None:
                    raise
                raise self._contact.with_region(refusal) from refusal.__cause__
            now = time.monotonic()
            out_since = out_since or now
            # The pauses grow and are random, so that a hundred workers do not all return in the same second
            # to a store that has just recovered.
            pause = random.uniform(longest / 2, longest)
            if now + pause > out_since + self._patience:
                raise error
            if longest < _LONGEST_PAUSE_SECONDS <= 2 * longest:  # once an outage, and not for a brief hiccup
                _log.warning("the store is unavailable; retrying for up to %.0f s: %s", self._patience, error)
            longest = min(2 * longest, _LONGEST_PAUSE_SECONDS)
            time.sleep(pause)

    def _attempt(self, path: str, call: Callable[[], T], size: int) -> T:
        """One request, without a retry."""

        def attempt() -> T:
            with driver_errors(self._url, path):
                if self._contact is None:
                    return call()
                with self._contact.checked(path):
                    return call()

        seconds = REQUEST_SECONDS if self._contact else MOUNT_SECONDS
        if self._hurries:
            seconds = min(seconds, HURRY_SECONDS)
        return call_within(f"{self._url}/{path}" if path else self._url, seconds, attempt, size)
