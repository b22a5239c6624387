"""A server whose scripted answers stand for S3's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.storage.store import PATIENCE
from tests.support.bucket_caches import forget_buckets
from tests.support.scripted_server import Server, answering


@pytest.fixture
def s3_answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The endpoint of S3 for this test: it gives the answers that the test has queued."""
    with answering() as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv(PATIENCE, "0.2")
        forget_buckets()
        yield server
        forget_buckets()
