"""Errors of Google's and Azure's stores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.storage.store import PATIENCE, Outage, StoreError, open_store
from cluster.storage.store_errors import Refused
from tests.support.scripted_server import (
    LOGIN,
    Answer,
    Server,
    refusal,
)
from tests.support.store_refusals import DENIED, NO_BUCKET

AZURE = {
    "AZURE_STORAGE_ACCOUNT_NAME": "account",
    "AZURE_STORAGE_ACCOUNT_KEY": "bm90IGEgcmVhbCBrZXk=",
}


@pytest.fixture
def clouds(s3_answers: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """The same server in the role of Google's and Azure's."""
    account = {"gcs_base_url": s3_answers.url, "disable_oauth": True, "client_email": "", "private_key": ""}
    (tmp_path / "account.json").write_text(json.dumps({**account, "private_key_id": ""}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
    for name, value in AZURE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", s3_answers.url)
    return s3_answers


@pytest.mark.parametrize(
    ("url", "answer", "output"),
    [
        (
            "az://c/run",
            refusal(403, "AuthenticationFailed", "Failed.\nRequestId:1\nTime:2"),
            "; check AZURE_STOR",
        ),
        ("az://c/run", refusal(404, "ContainerNotFound"), "ContainerNotFound: .*check the container's name"),
        ("az://c/run", refusal(403, "AuthorizationPermissionMismatch"), "Storage Blob Data Contributor"),
        ("az://c/run", refusal(409, "BlobArchived"), "BlobArchived: .*rehydrate"),
        ("az://c/run", LOGIN, "object store"),
        ("gs://b/run", NO_BUCKET, "NoSuchBucket: .*check the bucket's name"),
        ("gs://b/run", DENIED, "AccessDenied: .*storage.objects."),
        ("gs://b/run", refusal(400, "UserProjectMissing"), "UserProjectMissing: .*use a copy"),
        ("gs://b/run", LOGIN, "object store"),
    ],
)
def test_errors_of_other_clouds_are_distinguished_alike(
    clouds: Server, url: str, answer: Answer, output: str
) -> None:
    clouds.answer = lambda request: answer
    for ask in (
        lambda store: store.read("k"),
        lambda store: store.size("k"),
        lambda store: store.create("k", b"x"),
    ):
        with pytest.raises(Refused, match=output) as caught:
            ask(open_store(url))
        assert "\n" not in str(caught.value) and "RequestId" not in str(caught.value)


def test_azure_answers_conflict_for_existing_objects(clouds: Server) -> None:
    clouds.answer = lambda request: refusal(409, "BlobAlreadyExists")
    assert not open_store("az://c/run").create("k", b"x")
    clouds.answer = lambda request: refusal(404, "BlobNotFound")
    assert not open_store("az://c/run").exists("k")


@pytest.mark.parametrize(
    ("url", "environment", "output"),
    [
        ("az://c/run", {}, "Account must be specified"),
        ("az://c/run", {**AZURE, "AZURE_STORAGE_ACCOUNT_KEY": "not base64!"}, "Invalid Access Key"),
        ("az://c/run", {**AZURE, "AZURE_STORAGE_ENDPOINT": "azurite:10000"}, "azurite:10000"),
        (
            "gs://b/run",
            {"GOOGLE_APPLICATION_CREDENTIALS": "/none.json"},
            "account file from /none.json",
        ),
        ("s3:///run", {}, "s3://BUCKET/PREFIX"),
        ("gs://b b/run", {}, "gs://BUCKET/PREFIX"),
    ],
)
def test_missing_access_to_other_clouds_is_a_one_line_error(
    monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], output: str
) -> None:
    monkeypatch.setenv(PATIENCE, "60")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=output) as caught:
        open_store(url).read("k")
    assert "\n" not in str(caught.value) and not isinstance(caught.value, Outage)
