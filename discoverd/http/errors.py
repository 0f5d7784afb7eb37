"""What the API says when it says no: ``{"error": ..., "field": ...}`` with a 4xx status."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handled = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger("discoverd.http")


class ApiError(Exception):
    """A request that is not fulfilled. ``text`` is for people; ``field`` names what was wrong."""

    def __init__(
        self, status: int, text: str, field: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.status, self.text, self.field, self.headers = status, text, field, headers or {}


def failure(
    status: int, text: str, field: str | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    return web.json_response({"error": text, "field": field}, status=status, headers=headers)


@web.middleware
async def errors(request: web.Request, handler: Handled) -> web.StreamResponse:
    """Give every refusal and every fault the same shape."""
    try:
        return await handler(request)
    except ApiError as error:
        return failure(error.status, error.text, error.field, error.headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return failure(error.status, f"{request.method} {request.path}: {error.reason.lower()}", None, allow)
    except ConnectionError:
        raise  # the client has gone; nobody is left to be told
    except Exception:
        # one request that trips over a fault of ours must not take the others down
        log.exception("no answer to %s %s", request.method, request.path)
        return failure(500, "internal error; the server's log has more")
