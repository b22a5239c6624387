"""Web servers, proxies and stores without conditional writes are refused as object stores."""

from __future__ import annotations

import pytest

from cluster.inputs.sources import read_image
from cluster.storage.store import StoreError, open_store
from cluster.storage.store_errors import Misdirected, Refused
from tests.support.scripted_server import (
    LOGIN,
    NO_SUCH_KEY,
    Answer,
    Request,
    Server,
    found,
    refusal,
)
from tests.support.store_refusals import NOT_IMPLEMENTED


@pytest.mark.parametrize(
    "answer",
    [LOGIN, *(LOGIN._replace(status=status) for status in (403, 404, 405, 511)), Answer(200)],
    ids=lambda answer: f"{answer.status} {answer.kind}",
)
def test_a_server_that_answers_html_is_not_a_store(s3_answers: Server, answer: Answer) -> None:
    s3_answers.answer = lambda request: answer
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


def test_a_web_server_with_entity_tags_is_not_a_store(s3_answers: Server) -> None:
    """It answers every request with its start page."""
    tagged = LOGIN._replace(headers={"ETag": '"1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})
    s3_answers.answer = lambda request: tagged
    for ask in (
        lambda: open_store("s3://b/run").read("run.json"),
        lambda: read_image("s3://b/a.png", lambda size: None),
        lambda: list(open_store("s3://b/run").list()),
        lambda: open_store("s3://b/run").check_create(),
    ):
        with pytest.raises(StoreError, match=r"object store|If-None-Match"):
            ask()


def test_a_web_page_in_a_bucket_is_an_object(s3_answers: Server) -> None:
    page = found("<html>")._replace(kind="text/html")
    s3_answers.answer = lambda request: page if request.path == "/b/run/a.png" else NO_SUCH_KEY
    assert read_image("s3://b/run/a.png", lambda size: None) == b"<html>"


def test_listings_and_puts_answered_by_html_are_refused(s3_answers: Server) -> None:
    """Even though reads are answered as a store does."""

    def answer(request: Request) -> Answer:
        if request.method == "PUT" or "list-type" in request.path:
            return LOGIN
        return NO_SUCH_KEY

    s3_answers.answer = answer
    for ask in (lambda store: list(store.list()), lambda store: store.check_create()):
        with pytest.raises(Misdirected):
            ask(open_store("s3://b/run"))


def test_a_store_that_does_not_store_is_refused(s3_answers: Server) -> None:
    """A store that honours put-if-absent, but does not return what was written."""
    puts: list[str] = []

    def answer(request: Request) -> Answer:
        if request.method == "PUT":
            puts.append(request.path)
            return found("") if len(puts) == 1 else refusal(412, "PreconditionFailed")
        return NO_SUCH_KEY if request.method != "POST" else Answer(200, "<DeleteResult></DeleteResult>")

    s3_answers.answer = answer
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL"):
        open_store("s3://b/run").check_create()


def test_a_store_that_cannot_write_once_is_refused_at_once(s3_answers: Server) -> None:
    s3_answers.answer = lambda request: NOT_IMPLEMENTED if request.method == "PUT" else Answer(200, "")
    with pytest.raises(Refused, match=r"NotImplemented.*use another store for --out"):
        open_store("s3://b/run", patience=3600).check_create()
    assert sum(request.method == "PUT" for request in s3_answers.requests) == 1
