"""The live page: three files of this package, which load nothing from elsewhere and need no build."""

from __future__ import annotations

import hashlib
from importlib import resources

from aiohttp import web

#: Only what this server serves, no code within the page, no HTML made of text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


class Page:
    """Serves the files from memory; browsers ask whether they have changed."""

    def __init__(self) -> None:
        folder = resources.files(__name__)
        self._files = {
            path: ((folder / name).read_bytes(), f"{kind}; charset=utf-8")
            for path, (name, kind) in FILES.items()
        }

    def routes(self) -> list[web.RouteDef]:
        return [web.get(path, self.file) for path in FILES]

    async def file(self, request: web.Request) -> web.Response:
        body, kind = self._files[request.path]
        tag = hashlib.sha256(body).hexdigest()[:16]
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        if any(given.value in (tag, "*") for given in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={**headers, "Content-Type": kind})
