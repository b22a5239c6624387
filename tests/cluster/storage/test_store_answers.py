"""Failures of services and networks, as documented: each becomes one line with the service's code and the
fix, attributed to whoever is at fault."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cluster.inputs.listing import scan
from cluster.inputs.readable import check_readable
from cluster.inputs.sources import Unreadable, read_image, remember_readable
from cluster.storage.store import PATIENCE, NotFound, Outage, open_store
from cluster.storage.store_errors import Refused
from jobs.cli import main
from tests.support.bucket_caches import forget_buckets
from tests.support.scripted_server import (
    LOGIN,
    NO_SUCH_KEY,
    Answer,
    Request,
    Server,
    found,
    listing,
    refusal,
)
from tests.support.store_refusals import DENIED, NO_BUCKET, NOT_IMPLEMENTED

SKEWED = refusal(403, "RequestTimeTooSkewed", "The difference between the request time and the current time")
ARCHIVED = refusal(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
CONFLICT = refusal(409, "ConditionalRequestConflict", "The conditional request cannot succeed")


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


@pytest.mark.parametrize(("answer", "output"), REFUSALS, ids=lambda value: str(value)[:40])
def test_a_refusal_is_one_line_with_the_services_code_and_the_fix(
    s3_answers: Server, answer: Answer, output: str
) -> None:
    s3_answers.answer = lambda request: answer
    for ask in (
        lambda store: store.read("k"),
        lambda store: store.size("k"),
        lambda store: store.create("k", b"x"),
        lambda store: store.write("k", b"x"),
        lambda store: list(store.list()),
        lambda store: store.delete("k"),
        lambda store: store.check_create(),
    ):
        with pytest.raises(Refused, match=output) as caught:
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
    ("answer", "output"),
    [
        (refusal(503, "SlowDown", "Please reduce your request rate."), "503 Service Unavailable"),
        (refusal(400, "RequestTimeout"), "RequestTimeout|400 Bad Request"),
        (CONFLICT, "ConditionalRequestConflict: The conditional request cannot succeed"),
        (Answer(502, LOGIN.body, "text/html"), "502 Bad Gateway"),
        (Answer(429), "429 Too Many Requests"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_temporary_failures_are_retried(s3_answers: Server, answer: Answer, output: str) -> None:
    s3_answers.answer = lambda request: answer
    for ask in (lambda store: store.read("k"), lambda store: store.create("k", b"x")):
        s3_answers.requests.clear()
        with pytest.raises(Outage, match=output):
            ask(open_store("s3://b/run"))
        assert len(s3_answers.requests) > 1


def test_a_conflict_is_retried_and_a_failed_precondition_is_final(
    s3_answers: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "60")
    answers: list[Answer] = []
    s3_answers.answer = lambda request: answers.pop(0)
    answers += [CONFLICT, refusal(409, "OperationAborted"), found("")]
    assert open_store("s3://b/run").create("k", b"mine")
    answers += [CONFLICT, refusal(412, "PreconditionFailed")]
    assert not open_store("s3://b/run").create("k", b"mine")
    assert all(request.headers["if-none-match"] == "*" for request in s3_answers.requests)
    assert not answers


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
    s3_answers: Server, others: Answer, answer: Answer, blamed: str | None
) -> None:
    for uri in ("s3://b/in/a.png", "s3://b/in//a.png"):  # the second goes by boto3
        key = uri.removeprefix("s3:/")
        s3_answers.answer = lambda request, key=key: answer if request.path.startswith(key) else others
        if blamed:
            with pytest.raises(Unreadable) as unreadable:
                read_image(uri, lambda size: None)
            assert unreadable.value.reason_code == blamed
            assert blamed == "missing" or "</Code>" not in unreadable.value.message
        else:
            with pytest.raises(Refused):
                read_image(uri, lambda size: None)


def test_without_list_permission_a_readable_object_shows_what_is_refused(s3_answers: Server) -> None:
    """To credentials that may not list, S3 answers "denied" for absent objects."""
    allowed = {"/b/in/a.png"}
    s3_answers.answer = lambda request: found() if request.path in allowed else DENIED
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
    s3_answers: Server, monkeypatch: pytest.MonkeyPatch, unsigned: bool, pays: bool
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
    s3_answers.answer = lambda request: found(request.path) if request.path in there else listing(*keys)
    manifest = scan("s3://b")
    assert sorted(manifest.table["uri"].to_pylist()) == sorted(f"s3://b/{key}" for key in keys)
    for key in keys:
        assert read_image(f"s3://b/{key}", lambda size: None).decode() == f"/b/{key}"
    for request in s3_answers.requests:
        assert ("authorization" in request.headers) != unsigned
        assert unsigned or "/eu-west-3/s3/" in request.headers["authorization"]
        assert (request.headers.get("x-amz-request-payer") == "requester") == pays


def test_an_unreadable_collection_is_refused_before_work_begins(
    s3_answers: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Credentials that may list but not read, and lists that name a bucket that does not exist."""
    readable = {"/b/in/2.png"}

    def answer(request: Request) -> Answer:
        if request.path.startswith("/gone"):
            return NO_BUCKET
        if "list-type" in request.path:
            return listing(*(f"in/{n}.png" for n in range(5)))
        return found() if request.path in readable else DENIED

    s3_answers.answer = answer
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
