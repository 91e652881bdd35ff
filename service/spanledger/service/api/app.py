"""The application: routes, what every answer has in common, and the dashboard's files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from spanledger.exporter import queries
from spanledger.exporter import stats as statistics
from spanledger.exporter.client import ClickHouseError
from spanledger.exporter.rollup import Covered
from spanledger.exporter.savings import savings as saved
from spanledger.pricing.book import PriceFileError
from spanledger.service.api import answers, more, parameters
from spanledger.service.api.access import Access, Misdirected, TooOften, Unauthenticated
from spanledger.service.api.ledger import Ledger, TooMuch
from spanledger.service.api.openapi import document
from spanledger.service.api.parameters import Parameters, Unprocessable, Wrong
from spanledger.service.api.settings import ServeSettings
from spanledger.settings import Settings, SettingsError

WEB: Final = Path(__file__).parent.parent / "web"

_CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}

Endpoint = Callable[[Request], Awaitable[Response]]
Answering = Callable[["Asked"], Awaitable[Any]]


class Asked:
    """A request that may be answered.

    Attributes:
        tenant: the only one that its sender sees; empty: all.
        parameters: of its query string.
    """

    def __init__(self, request: Request, tenant: str) -> None:
        self.request = request
        self.tenant = tenant
        self.parameters = Parameters(request.query_params.multi_items())

    @property
    def wants_csv(self) -> bool:
        """By `format=csv`, or by an `accept` header that names CSV and not JSON."""
        accept = self.request.headers.get("accept", "")
        default = "csv" if "text/csv" in accept and "application/json" not in accept else "json"
        return self.parameters.choice("format", ("json", "csv"), default) == "csv"


def application(now: Settings, chosen: ServeSettings, web: Path = WEB) -> Starlette:
    """The API and the dashboard.

    Parameters:
        web: the dashboard's files.
    """
    ledger = Ledger(now, chosen)
    kept = statistics.Kept()
    access = Access(chosen.tokens, chosen.requests_per_minute)

    async def stats(asked: Asked) -> Any:
        question = parameters.question(asked.parameters, asked.tenant)
        as_csv = asked.wants_csv
        asked.parameters.done()

        async def make(covered: Covered) -> bytes:
            as_of = datetime.now(timezone.utc)
            found = await ledger.ask(lambda client, limits: statistics.stats(client, question, covered, limits, kept))
            shown = answers.stats(question, found, now.base_currency, as_of)
            return answers.to_csv(shown["groups"] or shown["totals"]) if as_csv else answers.to_json(shown)

        return await ledger.answer((repr(question), as_csv), make)

    async def calls(asked: Asked) -> Any:
        given = asked.parameters
        since, until, where = _selection(asked)
        sort = given.choice("sort", [f"{sign}{name}" for name in queries.ORDERS for sign in ("-", "")], "-start_time")
        limit = given.limit(100, 1000)
        start: tuple[str, ...] = ()
        after = given.one("cursor", _cursor_of, start)
        as_csv = asked.wants_csv
        given.done()

        page = since, until, where, sort, limit, after
        key = "calls", since, until, repr(where), sort, limit, after

        async def make(covered: Covered) -> bytes:
            old = covered.unchanged(since, until)
            before = await ledger.of_old_dates(
                key, covered, old, lambda client, limits: queries.list_calls(client, *page, limits, old)
            )
            live = await ledger.ask(lambda client, limits: queries.list_calls(client, *page, limits, covered.changed))
            rows, end = queries.page([*before, *live], sort, limit)
            shown = [answers.call(row) for row in rows]
            whole = {"calls": shown, "next": _cursor(end) if end else None}
            return answers.to_csv(shown) if as_csv else answers.to_json(whole)

        try:
            return await ledger.answer((*key, as_csv), make)
        except queries.QueryError as error:
            raise Unprocessable([Wrong("cursor", str(error))]) from error

    async def one_call(asked: Asked) -> Any:
        from spanledger.service.explain_cli import proof

        asked.parameters.done()
        identifier = asked.request.path_params["id"]
        rows = await ledger.ask(lambda client, _: queries.explain_row(client, identifier))
        rows = [row for row in rows if not asked.tenant or row["tenant"] == asked.tenant]
        if not rows:
            raise _NotFound(f"no call has {identifier!r} as entry, response or span id")
        trace = chosen.trace_url.replace("{trace_id}", rows[0]["trace_id"]) if chosen.trace_url else None
        return {
            "trace_url": trace if rows[0]["trace_id"] else None,
            "rows": [{**answers.call(row), "explanation": proof(row)} for row in rows],
        }

    async def savings(asked: Asked) -> Any:
        question = parameters.question(asked.parameters, asked.tenant, of_figures=False)
        as_csv = asked.wants_csv
        asked.parameters.done()

        async def make(covered: Covered) -> bytes:
            as_of = datetime.now(timezone.utc)
            groups, totals = await ledger.ask(lambda client, limits: saved(client, question, covered, limits, kept))
            shown = more.savings(question, groups, totals, as_of)
            return answers.to_csv(shown["groups"] or shown["totals"]) if as_csv else answers.to_json(shown)

        return await ledger.answer(("savings", repr(question), as_csv), make)

    async def unpriced(asked: Asked) -> Any:
        since, until, where = _selection(asked)
        as_csv = asked.wants_csv
        asked.parameters.done()

        async def make(covered: Covered) -> bytes:
            dates = [*covered.unchanged(since, until), *covered.changed]
            rows = await ledger.ask(lambda client, limits: more.unpriced(client, since, until, where, limits, dates))
            return answers.to_csv(rows) if as_csv else answers.to_json({"unpriced": rows})

        return await ledger.answer(("unpriced", since, until, repr(where), as_csv), make)

    async def repricing(asked: Asked) -> Any:
        since, until, where = _selection(asked)
        as_csv = asked.wants_csv
        asked.parameters.done()
        found = await ledger.ask(lambda client, _: more.repricing(client, since, until, where))
        return answers.to_csv(found["changes"]) if as_csv else found

    async def prices(asked: Asked) -> Any:
        from spanledger.pricing.book import default_book
        from spanledger.pricing.inquiry import InquiryError, list_models

        given = asked.parameters
        provider = given.one("provider", str, "")
        model = given.one("model", str, "")
        at = given.one("at", lambda text: _instant(text, given.now), given.now)
        limit = given.limit(1000)
        given.done()
        book = default_book()
        try:
            found = list_models(book, int(at.timestamp()) * 10**9, provider, model)
        except InquiryError as error:
            raise Unprocessable([Wrong("provider", str(error), tuple(book.providers()))]) from error
        return {
            "at": at,
            "more": len(found) > limit,
            "prices": [{name: getattr(each, name) for name in each.__slots__} for each in found[:limit]],
        }

    async def budgets(asked: Asked) -> Any:
        asked.parameters.done()

        async def make(_covered: Covered) -> bytes:
            found = await ledger.ask(lambda client, _: more.budgets(client, now, asked.tenant))
            return answers.to_json({"budgets": found})

        minute = datetime.now(timezone.utc).replace(second=0, microsecond=0)  # windows move on
        return await ledger.answer(("budgets", asked.tenant, minute), make)

    async def settings(asked: Asked) -> Any:
        asked.parameters.done()
        return {
            "base_currency": now.base_currency,
            "trace_url": chosen.trace_url or None,
            "tenant": asked.tenant or None,
        }

    async def openapi(asked: Asked) -> Any:
        asked.parameters.done()
        return document()

    def endpoint(answer: Answering) -> Endpoint:
        async def run(request: Request) -> Response:
            try:
                authorization = request.headers.get("authorization")
                tenant = access.tenant(authorization, request.headers.get("host", ""))
                access.admit(authorization or (request.client.host if request.client else ""))
                asked = Asked(request, tenant)
                found = await answer(asked)
            except Exception as error:
                return _failure(error)
            as_csv = isinstance(found, bytes) and not found.startswith(b"{")
            content = found if isinstance(found, bytes) else answers.to_json(found)
            kind = "text/csv; charset=utf-8" if as_csv else "application/json"
            return Response(content, 200, {**_HEADERS, "cache-control": "no-store"}, kind)

        return run

    api = "/api/v1/llm"
    routes: list[BaseRoute] = [
        Route(f"{api}/stats", endpoint(stats)),
        Route(f"{api}/calls", endpoint(calls)),
        Route(f"{api}/calls/{{id}}", endpoint(one_call)),
        Route(f"{api}/savings", endpoint(savings)),
        Route(f"{api}/unpriced", endpoint(unpriced)),
        Route(f"{api}/repricing", endpoint(repricing)),
        Route(f"{api}/prices", endpoint(prices)),
        Route(f"{api}/budgets", endpoint(budgets)),
        Route("/api/v1/settings", endpoint(settings)),
        Route("/api/v1/openapi.json", endpoint(openapi)),
        Route("/healthz", _health),
    ]
    if web.is_dir():
        routes.append(Mount("/", _Files(directory=web, html=True)))
    middleware = [Middleware(GZipMiddleware, minimum_size=1000, compresslevel=4)]
    if chosen.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(chosen.cors_origins),
                allow_methods=["GET"],
                allow_headers=["authorization"],
            )
        )
    app = Starlette(routes=routes, middleware=middleware)
    app.state.ledger = ledger
    return app


def _selection(asked: Asked) -> tuple[datetime | None, datetime | None, dict[str, list[str]]]:
    """Which calls: since, until and filters."""
    given = asked.parameters
    since, until = given.span(given.time_zone())
    return since, until, given.where(asked.tenant)


class _NotFound(Exception):
    """There is no such thing in the ledger."""


class _Files(StaticFiles):
    """The dashboard's files: nothing of them is secret, and nothing in them may come from elsewhere."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        for name, value in _HEADERS.items():
            response.headers[name] = value
        response.headers["cache-control"] = "no-cache"  # asked each time, sent when changed
        return response


async def _health(_request: Request) -> Response:
    return Response(b'{"status":"ok"}', media_type="application/json")


def _failure(error: Exception) -> Response:
    """The answer to a request that cannot be answered.

    Raises:
        Exception: an error of ours.
    """
    if isinstance(error, Unprocessable):
        return _errors(422, [_told(wrong) for wrong in error.wrong])
    if isinstance(error, queries.QueryError):
        return _errors(422, [{"message": str(error)}])
    if isinstance(error, Unauthenticated):
        return _errors(401, [{"message": str(error)}], {"www-authenticate": "Bearer"})
    if isinstance(error, Misdirected):
        return _errors(421, [{"message": str(error)}])
    if isinstance(error, TooOften):
        return _errors(429, [{"message": str(error)}], {"retry-after": str(error.retry_after)})
    if isinstance(error, TooMuch):
        return _errors(422, [{"message": str(error)}])
    if isinstance(error, _NotFound):
        return _errors(404, [{"message": str(error)}])
    if isinstance(error, ClickHouseError):
        message = "ClickHouse does not answer" if error.unreachable else "ClickHouse refused the query"
        return _errors(503, [{"message": message}], {"retry-after": "2"})
    if isinstance(error, (SettingsError, PriceFileError)):
        return _errors(500, [{"message": str(error)}])
    raise error


def _told(wrong: Wrong) -> dict[str, Any]:
    told: dict[str, Any] = {"field": wrong.field, "message": wrong.message}
    return told | ({"allowed": wrong.allowed} if wrong.allowed else {})


def _errors(status: int, errors: Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None = None) -> Response:
    content = answers.to_json({"errors": errors})
    return Response(content, status, {**_HEADERS, **(headers or {})}, "application/json")


def _cursor(end: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(end)).decode()


def _cursor_of(text: str) -> tuple[str, ...]:
    try:
        found = orjson.loads(base64.urlsafe_b64decode(text.encode()))
        if isinstance(found, list) and len(found) == 3 and all(isinstance(each, str) for each in found):
            float(found[0])
            return tuple(found)
    except (binascii.Error, ValueError):
        pass
    raise ValueError("it is not the `next` of an answer")


def _instant(text: str, now: datetime) -> datetime:
    from spanledger.service import times

    return times.parse(text, now)
