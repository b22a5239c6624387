"""Snapshots with a checksum: what was written is read, and nothing else is."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from originality.contract.snapshot_file import read_snapshot, write_snapshot

HEADER = b"a format 1\n"


@given(st.binary(max_size=50))
def test_a_state_is_read_as_it_was_written(state):
    snapshot = write_snapshot(HEADER, lambda file: file.write(state))
    assert snapshot == HEADER + hashlib.sha256(state).digest() + state
    assert read_snapshot(HEADER, snapshot).read() == state


@given(st.binary(max_size=20), st.data())
def test_a_changed_or_shortened_snapshot_is_refused(state, data):
    snapshot = write_snapshot(HEADER, lambda file: file.write(state))
    at = data.draw(st.integers(0, len(snapshot) - 1))
    changed = snapshot[:at] + bytes([snapshot[at] ^ 1]) + snapshot[at + 1 :]
    for damaged in (changed, snapshot[:at], snapshot + b"\0"):
        with pytest.raises(ValueError, match="snapshot"):
            read_snapshot(HEADER, damaged)


def test_a_snapshot_of_a_different_format_is_refused_by_name():
    snapshot = write_snapshot(b"a format 2\n", lambda file: file.write(b"state"))
    with pytest.raises(ValueError, match="a format 1"):
        read_snapshot(HEADER, snapshot)
