"""Failures of services and networks, as documented: each becomes one line with the service's code and the
fix, attributed to whoever is at fault."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.inputs.listing import scan
from cluster.inputs.readable import check_readable
from cluster.inputs.sources import Unreadable, read_image, remember_readable
from cluster.storage.store import PATIENCE, NotFound, Outage, StoreError, open_store
from cluster.storage.store_errors import Misdirected, Refused
from jobs.cli import main
from tests.support.bucket_caches import forget_buckets
from tests.support.scripted_server import (
    LOGIN,
    NO_SUCH_KEY,
    Answer,
    Request,
    Server,
    answering,
    found,
    listing,
    refusal,
)

SKEWED = refusal(403, "RequestTimeTooSkewed", "The difference between the request time and the current time")
DENIED = refusal(403, "AccessDenied", "Access Denied")
ARCHIVED = refusal(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
NO_BUCKET = refusal(404, "NoSuchBucket", "The specified bucket does not exist")
CONFLICT = refusal(409, "ConditionalRequestConflict", "The conditional request cannot succeed")
NOT_IMPLEMENTED = refusal(501, "NotImplemented", "A header you provided implies functionality that is not")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with answering() as server:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv(PATIENCE, "0.2")
        forget_buckets()
        yield server
        forget_buckets()


REFUSALS = [
    (SKEWED, "RequestTimeTooSkewed: .*this machine's clock; it says "),
    (refusal(400, "ExpiredToken", "The provided token has expired."), "ExpiredToken: .*aws sso login"),
    (refusal(403, "InvalidAccessKeyId"), "InvalidAccessKeyId: As the service says; .*AWS_ACCESS_KEY_ID"),
    (refusal(403, "SignatureDoesNotMatch"), "SignatureDoesNotMatch: .*; check AWS_SECRET_ACCESS_KEY"),
    (DENIED, "AccessDenied: Access Denied; .* permission s3:"),
    (NO_BUCKET, "NoSuchBucket: The specified bucket .*the bucket's name"),
    (ARCHIVED, "InvalidObjectState: .*; it is archived: restore it"),
    (refusal(400, "KMS.DisabledException"), "KMS.DisabledException: .*kms:Decrypt"),
    (
        refusal(400, "AuthorizationHeaderMalformed", "the region is wrong", "<Region>eu-west-1</Region>"),
        "AuthorizationHeaderMalformed: .*; set AWS_REGION=eu-west-1$",
    ),
    (
        refusal(301, "PermanentRedirect")._replace(headers={"x-amz-bucket-region": "eu-west-3"}),
        "PermanentRedirect; .*set AWS_REGION=eu-west-3$",
    ),
    (
        refusal(
            400, "IllegalLocationConstraintException", "The eu-west-1 location constraint is incompatible"
        ),
        "IllegalLocationConstraintException: .*; set AWS_REGION=eu-west-1$",
    ),
    (NOT_IMPLEMENTED, "NotImplemented: .*If-None-Match.*use another store"),
    (
        Answer(403, '{"error": {"code": 403, "message": "no access", "status": "PERMISSION_DENIED"}}'),
        "PERMISSION_DENIED: no access",
    ),
    (Answer(407, LOGIN.body, "text/html"), "407 Proxy Authentication Required.*HTTPS_PROXY"),
    (
        Answer(400, "Client sent an HTTP request to an HTTPS server.", "text/plain"),
        "request to an HTTPS server",
    ),
]


@pytest.mark.parametrize(("answer", "said"), REFUSALS, ids=lambda value: str(value)[:40])
def test_a_refusal_is_one_line_with_the_services_code_and_the_fix(
    server: Server, answer: Answer, said: str
) -> None:
    server.answer = lambda request: answer
    for ask in (
        lambda store: store.read("k"),
        lambda store: store.size("k"),
        lambda store: store.create("k", b"x"),
        lambda store: store.write("k", b"x"),
        lambda store: list(store.list()),
        lambda store: store.delete("k"),
        lambda store: store.check_create(),
    ):
        with pytest.raises(Refused, match=said) as caught:
            ask(open_store("s3://b/run"))
        assert "\n" not in str(caught.value) and "Signature=" not in str(caught.value)
        assert not isinstance(caught.value, NotFound | Outage)
        again = pickle.loads(pickle.dumps(caught.value))  # as a worker's reaches the driver
        assert (str(again), again.code, again.refuses_all) == (
            str(caught.value),
            caught.value.code,
            caught.value.refuses_all,
        )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(503, "SlowDown", "Please reduce your request rate."), "503 Service Unavailable"),
        (refusal(400, "RequestTimeout"), "RequestTimeout|400 Bad Request"),
        (CONFLICT, "ConditionalRequestConflict: The conditional request cannot succeed"),
        (Answer(502, LOGIN.body, "text/html"), "502 Bad Gateway"),
        (Answer(429), "429 Too Many Requests"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_temporary_failures_are_retried(server: Server, answer: Answer, said: str) -> None:
    server.answer = lambda request: answer
    for ask in (lambda store: store.read("k"), lambda store: store.create("k", b"x")):
        server.requests.clear()
        with pytest.raises(Outage, match=said):
            ask(open_store("s3://b/run"))
        assert len(server.requests) > 1


@pytest.mark.parametrize(
    "answer",
    [LOGIN, *(LOGIN._replace(status=status) for status in (403, 404, 405, 511)), Answer(200)],
    ids=lambda answer: f"{answer.status} {answer.kind}",
)
def test_a_server_that_answers_html_is_not_a_store(server: Server, answer: Answer) -> None:
    server.answer = lambda request: answer
    for ask in (
        lambda store: store.read("run.json"),
        lambda store: store.exists("run.json"),
        lambda store: list(store.list()),
        lambda store: store.create("k", b"x"),
        lambda store: store.check_create(),
        lambda store: store.delete("k"),
    ):
        with pytest.raises(Misdirected, match="object store") as caught:
            ask(open_store("s3://b/run"))
        assert "Hotel Wi-Fi" in str(caught.value) or answer.status == 511 or not answer.body
    with pytest.raises(Misdirected):
        read_image("s3://b/a.png", lambda size: None)


def test_a_web_server_with_entity_tags_is_not_a_store(server: Server) -> None:
    """It answers every request with its start page."""
    tagged = LOGIN._replace(headers={"ETag": '"1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})
    server.answer = lambda request: tagged
    for ask in (
        lambda: open_store("s3://b/run").read("run.json"),
        lambda: read_image("s3://b/a.png", lambda size: None),
        lambda: list(open_store("s3://b/run").list()),
        lambda: open_store("s3://b/run").check_create(),
    ):
        with pytest.raises(StoreError, match=r"object store|If-None-Match"):
            ask()


def test_a_web_page_in_a_bucket_is_an_object(server: Server) -> None:
    page = found("<html>")._replace(kind="text/html")
    server.answer = lambda request: page if request.path == "/b/run/a.png" else NO_SUCH_KEY
    assert read_image("s3://b/run/a.png", lambda size: None) == b"<html>"


def test_listings_and_puts_answered_by_html_are_refused(server: Server) -> None:
    """Even though reads are answered as a store does."""

    def answer(request: Request) -> Answer:
        if request.method == "PUT" or "list-type" in request.path:
            return LOGIN
        return NO_SUCH_KEY

    server.answer = answer
    for ask in (lambda store: list(store.list()), lambda store: store.check_create()):
        with pytest.raises(Misdirected):
            ask(open_store("s3://b/run"))


def test_a_store_that_does_not_store_is_refused(server: Server) -> None:
    """A store that honours put-if-absent, but does not return what was written."""
    puts: list[str] = []

    def answer(request: Request) -> Answer:
        if request.method == "PUT":
            puts.append(request.path)
            return found("") if len(puts) == 1 else refusal(412, "PreconditionFailed")
        return NO_SUCH_KEY if request.method != "POST" else Answer(200, "<DeleteResult></DeleteResult>")

    server.answer = answer
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL"):
        open_store("s3://b/run").check_create()


def test_a_conflict_is_retried_and_a_failed_precondition_is_final(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "60")
    answers: list[Answer] = []
    server.answer = lambda request: answers.pop(0)
    answers += [CONFLICT, refusal(409, "OperationAborted"), found("")]
    assert open_store("s3://b/run").create("k", b"mine")
    answers += [CONFLICT, refusal(412, "PreconditionFailed")]
    assert not open_store("s3://b/run").create("k", b"mine")
    assert all(request.headers["if-none-match"] == "*" for request in server.requests)
    assert not answers


def test_a_store_that_cannot_write_once_is_refused_at_once(server: Server) -> None:
    server.answer = lambda request: NOT_IMPLEMENTED if request.method == "PUT" else Answer(200, "")
    with pytest.raises(Refused, match=r"NotImplemented.*use another store for --out"):
        open_store("s3://b/run", patience=3600).check_create()
    assert sum(request.method == "PUT" for request in server.requests) == 1


@pytest.mark.parametrize(
    ("others", "answer", "blamed"),
    [
        (NO_SUCH_KEY, DENIED, "unreadable"),
        (NO_SUCH_KEY, ARCHIVED, "unreadable"),
        (DENIED, ARCHIVED, "unreadable"),
        (NO_SUCH_KEY, refusal(400, "KMS.NotFoundException"), "unreadable"),
        (NO_SUCH_KEY, NO_SUCH_KEY, "missing"),
        (DENIED, DENIED, None),
        (SKEWED, SKEWED, None),
        (NO_BUCKET, NO_BUCKET, None),
    ],
)
def test_one_refused_key_is_a_row_and_a_refusal_of_all_is_an_error(
    server: Server, others: Answer, answer: Answer, blamed: str | None
) -> None:
    for uri in ("s3://b/in/a.png", "s3://b/in//a.png"):  # the second goes by boto3
        key = uri.removeprefix("s3:/")
        server.answer = lambda request, key=key: answer if request.path.startswith(key) else others
        if blamed:
            with pytest.raises(Unreadable) as unreadable:
                read_image(uri, lambda size: None)
            assert unreadable.value.reason_code == blamed
            assert blamed == "missing" or "</Code>" not in unreadable.value.message
        else:
            with pytest.raises(Refused):
                read_image(uri, lambda size: None)


def test_without_list_permission_a_readable_object_shows_what_is_refused(server: Server) -> None:
    """To credentials that may not list, S3 answers "denied" for absent objects."""
    allowed = {"/b/in/a.png"}
    server.answer = lambda request: found() if request.path in allowed else DENIED
    assert read_image("s3://b/in/a.png", lambda size: None) == b"x"
    with pytest.raises(Unreadable, match="AccessDenied"):
        read_image("s3://b/in/b.png", lambda size: None)
    allowed.clear()
    with pytest.raises(Refused, match="AccessDenied"):
        read_image("s3://b/in/b.png", lambda size: None)
    forget_buckets()
    allowed.add("/b/elsewhere.png")
    remember_readable({"s3://b": "elsewhere.png"})  # as the driver found
    with pytest.raises(Unreadable, match="AccessDenied"):
        read_image("s3://b/in/b.png", lambda size: None)


ODD = [
    "a b",
    "a%20b",
    "100%",
    "a+b",
    "what?",
    "h#x",
    "ü 漢",
    "a//b",
    "a/../b",
    "..",
    "end.",
    "x/./y",
    "/lead",
    "[2024]",
]


@pytest.mark.parametrize(("unsigned", "pays"), [(False, False), (False, True), (True, False)])
def test_unusual_keys_are_requested_like_others(
    server: Server, monkeypatch: pytest.MonkeyPatch, unsigned: bool, pays: bool
) -> None:
    if unsigned:
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    if pays:
        monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    keys = [f"{name}/x.png" for name in ODD]
    there = {f"/b/{key}" for key in keys}
    server.answer = lambda request: found(request.path) if request.path in there else listing(*keys)
    manifest = scan("s3://b")
    assert sorted(manifest.table["uri"].to_pylist()) == sorted(f"s3://b/{key}" for key in keys)
    for key in keys:
        assert read_image(f"s3://b/{key}", lambda size: None).decode() == f"/b/{key}"
    for request in server.requests:
        assert ("authorization" in request.headers) != unsigned
        assert unsigned or "/eu-west-3/s3/" in request.headers["authorization"]
        assert (request.headers.get("x-amz-request-payer") == "requester") == pays


AZURE = {
    "AZURE_STORAGE_ACCOUNT_NAME": "account",
    "AZURE_STORAGE_ACCOUNT_KEY": "bm90IGEgcmVhbCBrZXk=",
}


@pytest.fixture
def clouds(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """The same server in the role of Google's and Azure's."""
    account = {"gcs_base_url": server.url, "disable_oauth": True, "client_email": "", "private_key": ""}
    (tmp_path / "account.json").write_text(json.dumps({**account, "private_key_id": ""}))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
    for name, value in AZURE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", server.url)
    return server


@pytest.mark.parametrize(
    ("url", "answer", "said"),
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
    clouds: Server, url: str, answer: Answer, said: str
) -> None:
    clouds.answer = lambda request: answer
    for ask in (
        lambda store: store.read("k"),
        lambda store: store.size("k"),
        lambda store: store.create("k", b"x"),
    ):
        with pytest.raises(Refused, match=said) as caught:
            ask(open_store(url))
        assert "\n" not in str(caught.value) and "RequestId" not in str(caught.value)


def test_azure_answers_conflict_for_existing_objects(clouds: Server) -> None:
    clouds.answer = lambda request: refusal(409, "BlobAlreadyExists")
    assert not open_store("az://c/run").create("k", b"x")
    clouds.answer = lambda request: refusal(404, "BlobNotFound")
    assert not open_store("az://c/run").exists("k")


@pytest.mark.parametrize(
    ("url", "environment", "said"),
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
    monkeypatch: pytest.MonkeyPatch, url: str, environment: dict[str, str], said: str
) -> None:
    monkeypatch.setenv(PATIENCE, "60")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=said) as caught:
        open_store(url).read("k")
    assert "\n" not in str(caught.value) and not isinstance(caught.value, Outage)


def test_an_unreadable_collection_is_refused_before_work_begins(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Credentials that may list but not read, and lists that name a bucket that does not exist."""
    readable = {"/b/in/2.png"}

    def answer(request: Request) -> Answer:
        if request.path.startswith("/gone"):
            return NO_BUCKET
        if "list-type" in request.path:
            return listing(*(f"in/{n}.png" for n in range(5)))
        return found() if request.path in readable else DENIED

    server.answer = answer
    assert check_readable(scan("s3://b/in")) == {"s3://b": "in/2.png"}
    readable.clear()
    with pytest.raises(Refused, match="AccessDenied"):
        check_readable(scan("s3://b/in"))
    assert main(["audit", "s3://b/in", "--dry-run"]) == 2
    assert "permission s3:GetObject" in capfd.readouterr().err
    (tmp_path / "list.csv").write_text("uri\ns3://b/in/2.png\ns3://gone/a.png\n")
    readable.add("/b/in/2.png")
    with pytest.raises(Refused, match=r"s3://gone/a\.png: 404 Not Found, NoSuchBucket"):
        check_readable(scan(str(tmp_path / "list.csv")))
    assert check_readable(scan("examples")) == {}
