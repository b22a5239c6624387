"""A store that returns what was signed, with key and token: none of it reaches a message."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cluster.inputs.sources import Unreadable, read_image
from cluster.ray_runtime import ray_address
from cluster.run.record import sign
from cluster.storage.aws import checked_endpoint
from cluster.storage.store import PATIENCE, StoreError, open_store
from cluster.storage.store_errors import Answer as Said
from cluster.storage.store_errors import error_of_credentials
from tests.support.bucket_caches import forget_buckets
from tests.support.scripted_server import Answer, Server, answering, refusal

KEY_ID = "ASIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEPr//////////wEaCXVzLWVhc3QtMSJHMEUCIQDm" * 4
TO_SIGN = "AWS4-HMAC-SHA256\n20260101T000000Z\n20260101/us-east-1/s3/aws4_request\n0f1e2d"
LEAKS = (KEY_ID, SECRET, TOKEN[:24], "20260101", "aws4_request", "0f1e2d", "x-ms-date")

ECHO = (
    f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId><StringToSign>{TO_SIGN}</StringToSign>"
    f"<SignatureProvided>{SECRET}</SignatureProvided><CanonicalRequest>{TO_SIGN}</CanonicalRequest>"
    f"<Token-0>{TOKEN}</Token-0>"
)
BODIES = {
    "as S3 writes it": refusal(403, "SignatureDoesNotMatch", extra=ECHO),
    "in the message": refusal(400, "ExpiredToken", f"The token {TOKEN} of {KEY_ID} has expired; {SECRET}"),
    "what was signed in the message": refusal(403, "AccessDenied", f"&lt;StringToSign&gt;{TO_SIGN}"),
    "as a code": Answer(403, f"<Error><Code>{TOKEN}</Code>{ECHO}</Error>"),
    "a short one as a code": Answer(403, f"<Error><Code>{KEY_ID}</Code></Error>"),
    "without code and message": Answer(403, f"<Error>{ECHO.replace(chr(10), ' ')}</Error>"),
    "cut off": Answer(403, f"<Error><StringToSign>{TO_SIGN}".replace("\n", " ")),
    "of Azure": Answer(
        403,
        "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate it.</Message>"
        "<AuthenticationErrorDetail>Server used following string to sign: 'GET\nx-ms-date:now'."
        "</AuthenticationErrorDetail></Error>",
    ),
    "JSON of GCS": Answer(403, json.dumps({"error": {"code": 403, "message": f"Bearer {TOKEN} {SECRET}"}})),
    "JSON of a token service": Answer(400, json.dumps({"error": TOKEN, "error_description": SECRET})),
    "JSON of neither": Answer(403, json.dumps([TOKEN, {"StringToSign": TO_SIGN}])),
    "plain text": Answer(403, f"refused: {TOKEN} {KEY_ID} 20260101/us-east-1/s3/aws4_request", "text/plain"),
    "a page": Answer(403, f"<html><head><title>{TOKEN} {SECRET}</title></head></html>", "text/html"),
    "a failure": refusal(503, "SlowDown", f"Please slow down, {KEY_ID} {TOKEN}"),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with answering() as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-one-that-is-sent-back")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv(PATIENCE, "0.2")
        forget_buckets()
        yield server
        forget_buckets()


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The text that a traceback would show."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# boto3 repeats a request that failed for most of a minute.
REPEATED = [pytest.param(name, marks=pytest.mark.long) if name == "a failure" else name for name in BODIES]


@pytest.mark.parametrize("name", REPEATED)
def test_no_secret_of_a_body_passes(server: Server, name: str) -> None:
    server.answer = lambda request: BODIES[name]
    for ask in (
        lambda: open_store("s3://b/run").read("k"),
        lambda: open_store("s3://b/run").create("k", b"x"),
        lambda: list(open_store("s3://b/run").list()),
        lambda: read_image("s3://b/in/a.png", lambda size: None),
        lambda: read_image("s3://b/in//a.png", lambda size: None),  # a name that boto3 reads
    ):
        with pytest.raises((StoreError, Unreadable)) as caught:
            ask()
        for error in chain(caught.value):
            leaks = LEAKS if isinstance(error, StoreError | Unreadable) else LEAKS[:3]
            for text in (str(error), repr(error)):
                assert not [leak for leak in leaks if leak in text], text


@pytest.mark.parametrize("name", BODIES)
def test_code_and_message_of_a_body_are_kept(name: str) -> None:
    expected = {
        "as S3 writes it": "403 Forbidden, SignatureDoesNotMatch: As the service says",
        "in the message": "400 Forbidden, ExpiredToken: The token *** of *** has expired; ***",
        "without code and message": "403 Forbidden",
        "cut off": "403 Forbidden",
        "of Azure": "403 Forbidden, AuthenticationFailed: Server failed to authenticate it",
        "JSON of a token service": "400 Forbidden, ***",
        "JSON of neither": "403 Forbidden",
        "plain text": "403 Forbidden, refused: *** *** ***",
    }
    answer = BODIES[name]
    output = str(Said.of_body(answer.status, "Forbidden", answer.body))
    assert output == expected.get(name, output)


def test_no_record_contains_a_secret() -> None:
    output = {"status": "failed", "error_message": f"ValueError: {SECRET}"}
    record = sign(output, blank={}, attempts=1, worker="w")
    assert record["error_message"] == "ValueError: ***"


def test_output_of_a_credential_process_does_not_pass() -> None:
    output = (
        f"Error when retrieving credentials: {{'SessionToken': '{TOKEN}', 'SecretAccessKey': '{SECRET}'}}"
    )
    text = str(error_of_credentials("CredentialRetrievalError", output, "s3://b"))
    assert "CredentialRetrievalError" in text and not [leak for leak in LEAKS if leak in text]


@pytest.mark.parametrize("value", ["http://joe:s3cr3t@host:9000", "joe:s3cr3t@host:9000", "s3cr3t@host"])
def test_an_endpoint_with_a_password_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID") as caught:
        checked_endpoint(value, "AWS_ENDPOINT_URL")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://joe:s3cr3t@h:8265", "ray://joe:s3cr3t@h:10001", "joe:s3cr3t@h:6379"]
)
def test_an_address_of_ray_with_a_password_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(ray_address.Unusable) as caught:
        ray_address.check(address)
    assert "s3cr3t" not in str(caught.value)
