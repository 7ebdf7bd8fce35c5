"""What a failed request answers: {"error": {"code", "message", "field", "limit", "hint"}} and a status.

In: exceptions of routes and of the framework. Out: JSON that a person can act on, never a traceback.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from runfold_coordinator.store.errors import StoreUnavailableError
from runfold_coordinator.stream_reader import StreamUnavailableError

logger = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer other than success: a status, a stable code for programs, a message for people."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        limit: int | float | None = None,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what went wrong.

        Args:
            facts: What a program needs to go on, beside "error" in the answer.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.limit = limit
        self.hint = hint
        self.headers = headers or {}
        self.facts = dict(facts or {})

    def body(self) -> bytes:
        """Return the JSON body; absent parts are null so that every error has one shape."""
        error = {
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "limit": self.limit,
            "hint": self.hint,
        }
        return json.dumps({"error": error, **self.facts}).encode()

    def response(self) -> Response:
        """Return the whole answer."""
        return Response(self.body(), self.status, self.headers, media_type="application/json")


class BadRequestError(ApiError):
    """400: the request says something we can't do; `field` names the part."""

    def __init__(
        self, message: str, *, field: str, limit: int | float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(400, "bad_request", message, field=field, limit=limit, hint=hint)


class NotFoundError(ApiError):
    """404: nothing has this name; `field` tells which name."""

    def __init__(self, code: str, message: str, *, field: str, hint: str | None = None) -> None:
        super().__init__(404, code, message, field=field, hint=hint)


class OverLimitError(ApiError):
    """413: the request is larger than what one request may be."""

    def __init__(self, message: str, *, field: str, limit: int, hint: str | None = None) -> None:
        super().__init__(413, "too_large", message, field=field, limit=limit, hint=hint)


class UnavailableError(ApiError):
    """503: not now; asking again may help."""

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: int = 1) -> None:
        super().__init__(503, "unavailable", message, hint=hint, headers={"Retry-After": str(retry_after_s)})


def install_error_answers(app: FastAPI) -> None:
    """Give every exception that a route or the framework raises our one shape."""
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_parameter)
    app.add_exception_handler(HTTPException, _answer_framework_error)
    for passing in (StoreUnavailableError, StreamUnavailableError):
        app.add_exception_handler(passing, _answer_unavailable)


async def _answer_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError), "registered for ApiError only"
    return error.response()


async def _answer_invalid_parameter(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for RequestValidationError only"
    first: dict[str, Any] = dict(error.errors()[0])
    place = [str(part) for part in first.get("loc", ())]
    # Where JSON breaks off, the place is an offset.
    name = ".".join(place[1:] if first.get("type") != "json_invalid" else ()) or (place or ["request"])[0]
    context = first.get("ctx") or {}
    limit = next((context[word] for word in ("le", "ge", "lt", "gt", "max_length") if word in context), None)
    message = f"{name}: {first.get('msg', 'not valid')}"
    return BadRequestError(message, field=name, limit=limit).response()


async def _answer_unavailable(_request: Request, error: Exception) -> Response:
    return UnavailableError(f"not now: {error}", hint="ask again").response()


async def _answer_framework_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for HTTPException only"
    code = {404: "no_such_route", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    hint = "GET /api/v1/openapi.json lists the routes" if error.status_code in (404, 405) else None
    headers = dict(error.headers or {})
    # The framework itself raises 400 over nothing but a body that it can't parse.
    field = "body" if error.status_code == 400 else None
    return ApiError(
        error.status_code, code, str(error.detail), field=field, hint=hint, headers=headers
    ).response()
