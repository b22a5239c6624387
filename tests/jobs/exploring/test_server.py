"""The explorer's server over real HTTP: what it answers, and whom it refuses."""

from __future__ import annotations

import csv
import http.client
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from cluster.inputs.listing import scan
from cluster.run.folder import open_run
from cluster.run.layout import record_path
from cluster.storage.store import StoreError
from tests.support.explored_run import (
    CAPTION,
    COLUMN,
    NAMES,
    TOKEN,
    explored_run,
    image_id,
    served,
    tokens_of,
)
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

BEFORE = ROOT / "tests" / "data" / "run-581240f"
JUDGED = [number for number in range(len(NAMES) - 1) if number % 20 != 19]


def request(
    url: str, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Status, body and headers of a request; ``path`` is sent as it is."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    try:
        connection.putrequest(method, path, skip_host="Host" in (headers or {}))
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def answer(url: str, kind: str, view: Mapping[str, Any] | None = None, **parameters: str) -> Any:
    given = {"view": json.dumps(view or {}), **parameters}
    query = "&".join(f"{name}={quote(value)}" for name, value in given.items())
    status, body, _ = request(url, f"/{TOKEN}/api/{kind}?{query}")
    assert status == 200, body
    return json.loads(body)


def numbers(url: str, **view: Any) -> list[int]:
    return [row["number"] for row in answer(url, "rows", {"limit": 200, **view})["rows"]]


def condition(column: str, op: str, value: Any = None) -> dict[str, Any]:
    return {"column": column, "op": op, "value": value}


def test_rows_have_the_verdict_beside_the_list(url: str) -> None:
    found = answer(url, "rows", {"limit": 3})
    assert found["total"] == len(NAMES)
    first = found["rows"][0]
    assert (first["name"], first["tokens"], first["status"]) == (NAMES[0], "1", "judged")
    assert (first["artist"], first["year"], first["free"], first["list_status"]) == (
        "Klee",
        1900,
        True,
        "=1+1",
    )
    assert answer(url, "rows", {"offset": len(NAMES) - 1})["rows"][0]["status"] == "pending"


def test_rows_of_parts_and_of_records_are_counted_once(url: str) -> None:
    assert numbers(url) == list(range(len(NAMES)))
    assert numbers(url, where=[condition("status", "equals", "judged")]) == JUDGED


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"column": "tokens", "op": "in", "values": ["never", "2"]}, lambda n: tokens_of(n) in (None, 2)),
        (condition("year", "from", 1980), lambda n: n >= 80),
        (condition("year", "below", 1903), lambda n: n < 3),
        (condition("caption", "contains", "NUMBER 4"), lambda n: n == 4 or 40 <= n < 50),
        (condition("artist", "missing"), lambda n: n % 4 == 3),
        (condition("free", "equals", False), lambda n: n % 2 == 1),
        (condition(COLUMN, "equals", "value 2"), lambda n: n % 3 == 2),
    ],
)
def test_filters(url: str, where: Any, expected: Any) -> None:
    judged_only = [condition("status", "equals", "judged")]
    assert numbers(url, where=[where, *judged_only]) == [n for n in JUDGED if expected(n)]


def test_words_are_found_in_names_and_captions(url: str) -> None:
    assert numbers(url, find="PLAIN/012") == [12]
    assert numbers(url, find="klee number 44") == [44]
    assert numbers(url, find="onerror window") == [7, 91]


def test_order_puts_rows_without_a_value_last(url: str) -> None:
    found = answer(url, "rows", {"sort": "score", "down": True, "limit": 200})["rows"]
    scores = [row["score"] for row in found]
    judged = [score for score in scores if score is not None]
    assert judged == sorted(judged, reverse=True) and scores[: len(judged)] == judged
    by_tokens = [row["tokens"] for row in answer(url, "rows", {"sort": "tokens", "limit": 200})["rows"]]
    assert by_tokens[0] == "1" and by_tokens[len(JUDGED) - 1] == "never"


def test_pages_are_parts_of_one_order(url: str) -> None:
    for down in (False, True):
        whole = numbers(url, sort="artist", down=down)
        starts = range(0, len(NAMES) + 10, 10)
        pages = [numbers(url, sort="artist", down=down, offset=start, limit=10) for start in starts]
        assert [number for page in pages for number in page] == whole
        assert len(whole) == len(NAMES) and pages[-1] == []


def test_a_histogram_counts_what_its_bars_select(url: str) -> None:
    for column in ("tokens", "score", "year", "artist", "free", "confidence", COLUMN):
        bars = answer(url, "histogram", {"where": [condition(column, "present")]}, column=column)
        assert sum(bar["rows"] for bar in bars) <= len(NAMES)
        for bar in bars:
            assert answer(url, "rows", {"where": bar["where"]})["total"] == bar["rows"], (column, bar)


def test_a_scatter_plot_counts_every_row_with_both(url: str) -> None:
    found = answer(url, "scatter", x="score", y="reference_distance")
    assert sum(cell[2] for cell in found["cells"]) == len(JUDGED)
    assert all(0 <= i < found["columns"] and 0 <= j < found["rows"] for i, j, _ in found["cells"])


def test_a_run_of_an_earlier_version_is_explored(tmp_path: Path) -> None:
    shutil.copytree(BEFORE, tmp_path / "run")
    with served(open_run(str(tmp_path / "run"))) as address:
        rows = answer(address, "rows")["rows"]
        assert rows and {row["status"] for row in rows} <= {"judged", "rejected", "failed", "pending"}
        for row in rows:
            (verdict,) = answer(address, f"image/{row['number']}")["verdicts"]
            assert verdict is None or verdict["image_id"] == row["image_id"]
        assert answer(address, "scatter", x="score", y="reference_distance")["cells"] == []
        assert request(address, f"/{TOKEN}/api/agreement")[0] == 400


def test_a_run_in_a_bucket_shows_the_same(url: str, s3: str) -> None:
    with served(explored_run(f"{s3}/explored")) as address:
        view = {"where": [condition("status", "equals", "judged")], "sort": "score", "limit": 200}
        there, here = (answer(of, "rows", view)["rows"] for of in (address, url))
        shown = ("number", "name", "tokens", "score", "caption")
        assert [[row[name] for name in shown] for row in there] == [
            [row[name] for name in shown] for row in here
        ]
        pictures = [request(of, f"/{TOKEN}/picture/3/run/redraws.webp")[1] for of in (address, url)]
        assert pictures[0] == pictures[1] and pictures[0][:4] == b"RIFF"


def test_damaged_and_foreign_records_cost_only_their_rows(tmp_path: Path) -> None:
    run = explored_run(str(tmp_path / "run"))
    last = [number for number in JUDGED if number > len(NAMES) * 3 // 4][:3]
    paths = [tmp_path / "run" / record_path(image_id(number)) for number in last]
    paths[0].write_bytes(b"{")
    for path, field in zip(
        paths[1:], ({"score": "high"}, {"artefacts": "images/../../../secret"}), strict=True
    ):
        record = json.loads(path.read_text()) | field
        del record["checksum"]  # as in records of older versions
        path.write_text(json.dumps(record))
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "query.webp").write_bytes(b"RIFF0000WEBP")
    with served(run) as address:
        statuses = {row["number"]: row["status"] for row in answer(address, "rows", {"limit": 200})["rows"]}
        assert [statuses[number] for number in last] == ["pending", "pending", "judged"]
        assert sum(status == "judged" for status in statuses.values()) == len(JUDGED) - 2
        assert request(address, f"/{TOKEN}/picture/{last[2]}/run/query.webp")[0] == 404


def test_two_runs_are_compared(url: str) -> None:
    found = answer(url, "agreement")
    expected = [tokens_of(number) == tokens_of(number, 1) for number in JUDGED]
    assert (found["rows"], found["same"]) == (len(JUDGED), sum(expected))
    assert found["here"] == found["there"] == ["1", "2", "3", "4", "never"]
    most = answer(url, "rows", {"sort": "moved", "down": True})["rows"][0]
    assert (most["tokens"], most["against_tokens"], most["moved"]) == ("never", "1", -5)


def test_one_image_in_full(url: str) -> None:
    found = answer(url, "image/7")
    assert found["row"]["caption"] == CAPTION
    here, there = found["verdicts"]
    assert here["image_id"] == image_id(7) and len(here["sweep"]) == tokens_of(7)
    assert len(here["sweep"][0]["distances"]) == 20 and there["status"] == "judged"
    for side in ("run", "against"):
        for name in ("query.webp", "redraws.webp"):
            status, body, headers = request(url, f"/{TOKEN}/picture/7/{side}/{name}")
            assert (status, body[:4], headers["Content-Type"]) == (200, b"RIFF", "image/webp")
    assert request(url, f"/{TOKEN}/api/image/{len(NAMES)}")[0] == 404
    assert request(url, f"/{TOKEN}/picture/19/run/query.webp")[0] == 404


def test_a_selection_is_a_list_that_an_audit_takes(url: str, tmp_path: Path) -> None:
    view = json.dumps({"where": [condition("year", "from", 1970)], "sort": "year", "down": True})
    status, body, headers = request(url, f"/{TOKEN}/export.csv?view={quote(view)}")
    assert status == 200 and "attachment" in headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline="")))
    assert [row["uri"] for row in rows] == [f"/collection/{name}" for name in reversed(NAMES[70:])]
    assert rows[-1]["list_status"] == "'=1+1" and rows[-1]["tokens"] == "1"
    (tmp_path / "selection.csv").write_bytes(body)
    again = scan(str(tmp_path / "selection.csv"))
    assert again.table["uri"].to_pylist() == [row["uri"] for row in rows]
    assert {"artist", "year", "caption", "score"} <= set(again.extra)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "originality.example"},
        {"Host": "127.0.0.1.originality.example"},
        {"Host": ""},
        {"Host": "["},
        {"Origin": "http://originality.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_others_are_refused(url: str, headers: dict[str, str]) -> None:
    for path in ("", "api/rows", "assets/main.js", "picture/0/run/query.webp", "export.csv"):
        assert request(url, f"/{TOKEN}/{path}", headers)[0] in (400, 403)


def test_this_machine_is_served_through_a_forwarded_port(url: str) -> None:
    assert request(url, f"/{TOKEN}/", {"Host": "localhost:9999", "Origin": "http://localhost:9999"})[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/api/rows", "/assets/main.js", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", f"//{TOKEN}/", "/%ff/"],
)
def test_a_missing_or_wrong_token_is_refused(url: str, path: str) -> None:
    status, body, _ = request(url, path)
    assert status == 403 and TOKEN.encode() not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_writes(url: str, method: str) -> None:
    assert request(url, f"/{TOKEN}/api/rows", method=method)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "assets/../server.py",
        "assets/..%2fserver.py",
        "assets/%2e%2e/%2e%2e/server.py",
        "assets/%2fetc%2fpasswd",
        "picture/0/run/tokens.safetensors",
        "picture/0/run/..%2f..%2frun.json",
        "picture/0/other/query.webp",
        "picture/-1/run/query.webp",
        "run.json",
    ],
)
def test_no_other_file_can_be_had(url: str, path: str) -> None:
    assert request(url, f"/{TOKEN}/{path}")[0] == 404


def test_every_answer_forbids_other_scripts_and_addresses(url: str) -> None:
    for path in (f"/{TOKEN}/", f"/{TOKEN}/api/rows", f"/{TOKEN}/assets/none", "/"):
        headers = request(url, path)[2]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize(
    "view",
    [
        "{",
        "[]",
        '{"sort": "number; DROP TABLE items"}',
        '{"sort": "search"}',
        '{"where": [{"column": "1=1 OR uri", "op": "missing"}]}',
        '{"where": [{"column": "score", "op": "contains", "value": "x"}]}',
        '{"where": [{"column": "score", "op": "from", "value": "x"}]}',
        '{"where": [{"column": "score", "op": "from", "value": NaN}]}',
        '{"where": [{"column": "finished_at", "op": "from", "value": "yesterday"}]}',
        '{"where": [{"column": "score", "op": "; --"}]}',
        '{"limit": 1000000}',
        '{"offset": -1}',
        '{"unknown": 1}',
    ],
)
def test_a_view_that_is_not_valid_is_one_line(url: str, view: str) -> None:
    status, body, _ = request(url, f"/{TOKEN}/api/rows?view={quote(view)}")
    assert status == 400
    assert "\n" not in json.loads(body)["error"]


def test_values_never_become_sql(url: str) -> None:
    quoted = "' OR 1=1; DROP TABLE items; --"
    assert numbers(url, find=quoted) == []
    for column in ("uri", COLUMN, "caption"):
        for op in ("contains", "equals"):
            assert numbers(url, where=[condition(column, op, quoted)]) == []
    assert answer(url, "rows")["total"] == len(NAMES)


def test_a_wrong_parameter_is_a_bad_request(url: str) -> None:
    for path in ("histogram", "histogram?column=none", "scatter?x=uri&y=score", "rows?column=score"):
        assert request(url, f"/{TOKEN}/api/{path}")[0] == 400


def test_a_store_that_fails_is_an_answer_whatever_its_names_hold(url: str, monkeypatch) -> None:
    def fails(*_arguments: Any) -> None:
        raise StoreError("cannot read not-utf8-\udcff.png")

    monkeypatch.setattr("jobs.exploring.queries.Queries.row", fails)
    status, body, _ = request(url, f"/{TOKEN}/api/image/0")
    assert status == 502 and "udcff" in body.decode("ascii")
