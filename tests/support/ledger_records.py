"""Rows of an imaginary scorer, as a ledger records them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("status", pa.string()),
        ("value", pa.int64()),
        ("sweep", pa.list_(pa.struct([("tokens", pa.int32()), ("distance", pa.float64())]))),
        ("artefacts", pa.string()),
        ("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)
IDS = st.sampled_from([f"{i:02x}" * 32 for i in range(6)])


def record(value: int) -> dict[str, Any]:
    """A judged row that holds this value."""
    return {
        "status": "judged",
        "value": value,
        "sweep": [{"tokens": 1, "distance": value / 3}],
        "finished_at": datetime.fromtimestamp(value, UTC).isoformat(),
    }
