"""Docker contexts: the engines that the docker client has names for, in its own folder.

https://docs.docker.com/engine/manage-resources/contexts/ ; the folder is ``~/.docker`` or what
``DOCKER_CONFIG`` names, a context's is called by the SHA-256 of its name.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a URL begins with that names a context.
PREFIX = "context:"
#: The client's own name for "no context": DOCKER_HOST, or the usual socket.
DEFAULT = "default"
_FILES = {"tls_ca": "ca.pem", "tls_cert": "cert.pem", "tls_key": "key.pem"}


def chosen(environ: Mapping[str, str]) -> tuple[str, str]:
    """The context that ``DOCKER_CONTEXT`` or ``docker context use`` chose, and which of them; else empty."""
    if name := environ.get("DOCKER_CONTEXT", "").strip():
        return ("", "") if name == DEFAULT else (name, "DOCKER_CONTEXT")
    path = _folder(environ) / "config.json"
    used = _read(path).get("currentContext")
    # one that is left over from something that is gone is nobody's wish
    if isinstance(used, str) and used not in {"", DEFAULT} and table(PREFIX + used, environ):
        return used, str(path)
    return "", ""


def table(url: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """What the context in ``context:NAME`` says of its engine, as keys of a ``[[docker]]`` table.

    Empty where there is no such context, or none for Docker.
    """
    digest = hashlib.sha256(url.removeprefix(PREFIX).encode("utf-8", "surrogateescape")).hexdigest()
    folder = _folder(environ) / "contexts"
    endpoints = _read(folder / "meta" / digest / "meta.json").get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = endpoint.get("Host") if isinstance(endpoint, dict) else None
    if not isinstance(host, str) or not host or not isinstance(endpoint, dict):
        return {}
    found: dict[str, Any] = {"url": host}
    for key, name in _FILES.items():
        if (path := folder / "tls" / digest / "docker" / name).is_file():
            found[key] = str(path)
    if endpoint.get("SkipTLSVerify") is True:
        found["tls_verify"] = False
    return found


def _folder(environ: Mapping[str, str]) -> Path:
    given = environ.get("DOCKER_CONFIG", "").strip()
    return Path(given) if given else Path(environ.get("HOME", "/")) / ".docker"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
