"""Forgetting what other people's name servers have answered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from discoverd.http.errors import ApiError
from discoverd.http.schemas import DNS_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

#: Characters of the longest name with its final dot.
NAME_MOST = 254


class Cache:
    """``flush`` forgets a name and all below it, or all, and tells how many answers that were."""

    def __init__(self, flush: Callable[[str | None], int]) -> None:
        self._flush = flush

    def routes(self) -> list[web.RouteDef]:
        return [web.delete("/v1/cache", self.all), web.delete("/v1/cache/{name}", self.one)]

    async def all(self, _request: web.Request) -> web.Response:
        return web.json_response({"flushed": self._flush(None)})

    async def one(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if len(name) > NAME_MOST or not re.fullmatch(DNS_NAME.strip("^$"), name):
            raise ApiError(400, f"{name[:60]!r} is no DNS name, such as example.com", "name")
        return web.json_response({"flushed": self._flush(name.lower().rstrip("."))})
