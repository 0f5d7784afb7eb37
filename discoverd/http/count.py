"""Requests by route, method and status; every label has few values, whatever is asked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
#: Where no route is: the path is the client's own choice and no label.
NOWHERE = "none"


class Requests:
    """Counts what the application answered, by (route, method, status)."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, int]] = Counter()

    def middleware(self) -> Middleware:
        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            resource = request.match_info.route.resource
            method = request.method if request.method in METHODS else "other"
            self.counts[resource.canonical if resource else NOWHERE, method, response.status] += 1
            return response

        return count
