"""Checksums inside files."""

from __future__ import annotations

import pytest

from originality.contract.checksum import Mismatch, check, stamp

STAMPED = (
    b"PAR1 originality.checksum\x18S"
    b"originality-sha256:804ae6da3ea833327fe3062043cdcb1af5416bbdb8d5e2fe76d2273adafbcf1f data"
)


def test_the_key_and_prefix_in_files_written_before_stay() -> None:
    """They are part of the file format: renaming the module must not change them."""
    empty = STAMPED.replace(STAMPED[STAMPED.index(b":") + 1 :][:64], b"0" * 64)
    assert stamp(empty) == STAMPED
    check(STAMPED)


def test_a_file_that_never_had_a_checksum_passes() -> None:
    check(b"PAR1 data")


@pytest.mark.parametrize("place", range(len(STAMPED)))
def test_damage_anywhere_is_found(place: int) -> None:
    damaged = bytearray(STAMPED)
    damaged[place] ^= 1
    with pytest.raises(Mismatch):
        check(bytes(damaged))
