"""The explorer's server: the page, answers about the rows, one image's sheet and pictures. It only reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from cluster.run.folder import RunFolder
from cluster.storage.store import StoreError
from jobs.auditing.results_table import PENDING
from jobs.exploring.columns import ABSENT
from jobs.exploring.guard import RequestGuard
from jobs.exploring.queries import Queries
from jobs.exploring.rows import Rows
from jobs.exploring.sheet import PICTURES, SheetReader
from jobs.exploring.view import View, ViewError
from originality.contract.redaction import masked

_ASSETS = {
    name: files("jobs.exploring") / "assets" / name
    for name in (
        *("index.html", "explore.css"),
        *(
            "main.js",
            "view.js",
            "answers.js",
            "elements.js",
            "filters.js",
            "rows.js",
            "charts.js",
            "sheet.js",
        ),
        *("compare.js", "icon.svg"),
    )
} | {"report.css": files("originality.report") / "page.css"}
"""Every file of the page by its name; no other can be asked for."""
_TYPES = {"svg": "image/svg+xml", "html": "text/html", "css": "text/css", "js": "text/javascript"}


class Explorer:
    """The answers to the page's requests."""

    def __init__(self, rows: Rows, run: RunFolder, against: RunFolder | None = None) -> None:
        self._rows = rows
        self._queries = Queries(rows)
        self._readers = {False: SheetReader(run)}
        containers = run.manifest.table["container"] if run.manifest.has_containers else None
        self._inside = 0 if containers is None else len(containers) - containers.null_count
        if against is not None:
            self._readers[True] = SheetReader(against)

    def app(self, token: str) -> ASGIApp:
        """The server's application; ``token`` begins every path."""
        routes = [
            Route("/", self._page),
            Route("/assets/{name}", self._asset),
            Route("/api/run", self._answer(self._run)),
            Route("/api/rows", self._answer(self._queries.page)),
            Route("/api/histogram", self._answer(self._queries.histogram, "column")),
            Route("/api/scatter", self._answer(self._queries.scatter, "x", "y")),
            Route("/api/agreement", self._answer(self._queries.agreement)),
            Route("/api/image/{number:int}", self._image),
            Route("/picture/{number:int}/{side}/{name}", self._picture),
            Route("/export.csv", self._export),
        ]
        handlers: Any = {ViewError: _bad_view, StoreError: _store_failed}
        return RequestGuard(Starlette(routes=routes, exception_handlers=handlers), token)

    def _page(self, request: Request) -> Response:
        return _file("index.html")

    def _asset(self, request: Request) -> Response:
        return _file(request.path_params["name"])

    def _answer(self, query: Callable[..., Any], *parameters: str) -> Callable[[Request], Response]:
        """An endpoint that answers with JSON. ``query`` gets the view of the request, and the values of its
        other parameters, all of which must be there."""

        def endpoint(request: Request) -> Response:
            given = dict(request.query_params)
            view = View.parse(given.pop("view", ""))
            if given.keys() != set(parameters):
                raise ViewError(f"give the parameters view and {', '.join(parameters) or 'no other'}")
            return _json(query(view, *(given[name] for name in parameters)))

        return endpoint

    def _run(self, view: View) -> dict[str, Any]:
        columns = [
            {
                **{"name": c.name, "kind": c.kind, "origin": c.origin, "whole": c.whole},
                "range": self._rows.ranges.get(c.name),
            }
            for c in self._rows.schema.columns.values()
        ]
        against = self._readers.get(True)
        return {
            "run": self._readers[False].about(),
            "against": None if against is None else against.about(),
            "rows": self._rows.total,
            "inside": self._inside,
            "columns": columns,
            "tokens": self._queries.histogram(View(), "tokens"),
            "statuses": self._queries.histogram(View(), "status"),
        }

    def _image(self, request: Request) -> Response:
        row = self._queries.row(request.path_params["number"])
        if row is None:
            raise HTTPException(404)
        # Without a verdict there is none to look for, which would read every part of the run.
        statuses = (row["status"], row.get("against_status"))
        verdicts = [
            None if status in (PENDING, ABSENT) else reader.verdict(row["image_id"])
            for reader, status in zip(self._readers.values(), statuses, strict=False)
        ]
        return _json({"row": row, "verdicts": verdicts})

    def _picture(self, request: Request) -> Response:
        side, name = request.path_params["side"], request.path_params["name"]
        reader = self._readers.get(side == "against")
        known = side in ("run", "against") and name in PICTURES and reader is not None
        found = self._queries.artefacts(request.path_params["number"], side == "against") if known else None
        data = reader.picture(*found, name) if found and reader else None
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    def _export(self, request: Request) -> Response:
        parts = self._queries.export(View.parse(request.query_params.get("view", "")))
        headers = {"Content-Disposition": 'attachment; filename="selection.csv"'}
        return StreamingResponse(parts, media_type="text/csv", headers=headers)


def _file(name: str) -> Response:
    if name not in _ASSETS:
        raise HTTPException(404)
    return Response(_ASSETS[name].read_bytes(), media_type=_TYPES[name.rpartition(".")[2]])


def _json(value: Any, status: int = 200) -> Response:
    # ASCII: names may hold lone surrogates, which have no other encoding.
    return Response(json.dumps(value, allow_nan=False, default=str), status, media_type="application/json")


def _bad_view(request: Request, error: Exception) -> Response:
    return _json({"error": masked(str(error))}, 400)


def _store_failed(request: Request, error: Exception) -> Response:
    return _json({"error": masked(str(error))}, 502)
