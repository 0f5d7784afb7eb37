"""What can go wrong with an engine, in one line each that says how to mend it."""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import docker.errors
import requests.exceptions
import urllib3.exceptions

from discoverd.sources.docker.fault import EngineAwayError, EngineError, GoneError, NotManagerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from discoverd.sources.docker.settings import DockerSettings

_TIMEOUTS = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
#: JSON that is none, or is not what was asked for, and headers and encodings that nobody understands.
_GARBAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
)


def unreadable(key: str, settings: DockerSettings) -> str:
    """What is wrong with one of the PEM files for TLS, to be put after its path; empty where nothing is."""
    if not (path := getattr(settings, key)):
        return ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        with open(path, "rb"):  # noqa: PTH123 - an empty file is told from one that is not there
            pass
        if key == "tls_key" and settings.tls_cert:
            context.load_cert_chain(settings.tls_cert, path)
        else:
            context.load_verify_locations(path)
    except ssl.SSLError:  # one of the kinds of OSError
        return "cannot be used: expected " + (
            "the key of tls_cert" if key == "tls_key" else "a PEM certificate"
        )
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return ""


def translate(url: str, error: Exception, *, own_certificate: bool | None = None) -> EngineError:
    """What the docker client raised, as one of the faults that a watcher tells apart.

    ``own_certificate``: whether the client shows one; None where no TLS is spoken.
    """
    if isinstance(error, docker.errors.APIError):
        # a proxy says it in HTML
        said = " ".join(re.sub(r"<[^<>]*>", " ", str(error.explanation or error)).split())
        if error.status_code == 404 and "no such" in said.lower():  # and not just "page not found"
            return GoneError(said)
        if error.status_code == 503 and "not a swarm manager" in said:
            return NotManagerError(said)
        if tls := _tls_wanted(url, said):
            return EngineAwayError(tls)
        return EngineError(f"{url} refuses: {said[:200]} (HTTP {error.status_code})")
    if isinstance(error, requests.exceptions.ReadTimeout):
        return EngineError(f"{url} gave no answer in time: is the engine overloaded or hanging?")
    return EngineAwayError(explain(url, error, own_certificate))


def explain(url: str, error: Exception, own_certificate: bool | None = None) -> str:
    """One line for a user: what happened to ``url`` and what mends it."""
    causes = list(_causes(error))
    place = url.removeprefix("unix://") if url.startswith("unix://") else url
    for cause in causes:
        if isinstance(cause, docker.errors.InvalidVersion):
            return f"{url} is too old an engine: expected API 1.24 or later (Docker 1.12); upgrade it"
        if isinstance(cause, docker.errors.APIError):
            said = " ".join(str(cause.explanation or cause).split())
            return _tls_wanted(url, said) or f"{url} refuses: {said[:200]} (HTTP {cause.status_code})"
        if isinstance(cause, ssl.SSLError | requests.exceptions.SSLError):
            return _tls_failed(url, causes, own_certificate)
        if isinstance(cause, FileNotFoundError):
            return f"no Docker socket at {place}: is the engine installed and running?"
        if isinstance(cause, PermissionError):
            return (
                f"permission denied on {place}: add the user to the group docker"
                " (usermod -aG docker USER, then log in again) or run as root"
            )
        if isinstance(cause, ConnectionRefusedError):
            return _refused(url, place)
        if isinstance(cause, socket.gaierror):
            return f"{url}: no address is known for {urlsplit(url).hostname!r}: check the name"
    if any(isinstance(cause, _TIMEOUTS) for cause in causes):
        hint = "is the engine hanging" if place != url else "is the host up, and the port right"
        return f"{url} gives no answer: {hint}?"
    if any(isinstance(cause, ConnectionError | http.client.RemoteDisconnected) for cause in causes):
        # a refusal may be lost with the connection, where the request was on its way already
        doubt = {
            None: "is that a Docker Engine, and does it speak TLS?",
            False: "does it want a client certificate (tls_cert and tls_key)?",
            True: "does it refuse the client certificate (tls_cert)?",
        }
        return f"{url} closed the connection: {doubt[own_certificate]}"
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, requests.RequestException):
            return f"{url} cannot be reached: {cause.strerror}"
    if any(
        isinstance(cause, http.client.HTTPException | urllib3.exceptions.ProtocolError) for cause in causes
    ):
        return f"what answers at {url} is not a Docker Engine: it does not speak HTTP"
    if any(isinstance(cause, _GARBAGE) for cause in causes):
        return f"what answers at {url} is not a Docker Engine: it does not speak the engine's API"
    return f"{url} cannot be used: {_first_line(error)}"


def _refused(url: str, place: str) -> str:
    if not url.startswith("unix://"):
        return f"nothing listens at {url}: is the engine running there, and the port right?"
    if os.path.isdir(place):  # noqa: PTH112 - what "docker run -v" makes where the socket was missing
        return f"{place} is a folder, not a socket: it was mounted before the engine's socket existed"
    return f"nothing listens at {place}: the engine has stopped (or this is no socket)"


def _tls_wanted(url: str, said: str) -> str:
    if "HTTP request to an HTTPS server" in said:
        return f"{url} speaks TLS: give tls_ca (and tls_cert, tls_key), or the address as https://"
    return ""


def _tls_failed(url: str, causes: list[BaseException], own_certificate: bool | None) -> str:
    what = _first_line(causes[-1])
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = f"its certificate is refused, {cause.verify_message}"
        elif isinstance(cause, ssl.SSLError) and cause.reason:
            what = cause.reason.replace("_", " ").lower()
    before, alert, told = what.partition(" alert ")
    if alert and before.startswith(("sslv3", "tlsv1")) and _ABOUT_CERTIFICATES.search(told):
        if not own_certificate:
            return f"{url} wants a client certificate: give tls_cert and tls_key"
        return f"{url} refuses the client certificate ({told}): check tls_cert and tls_key"
    if what == "wrong version number":
        return f"{url} does not speak TLS: give the address as tcp://, without tls_ca, tls_cert and tls_key"
    return f"TLS with {url} failed: {what}; check tls_ca, tls_cert and tls_key"


#: RFC 8446 section 6.2; engines before TLS 1.3 call a missing one bad, or a handshake that failed.
_ABOUT_CERTIFICATES = re.compile(r"certificate|unknown ca|handshake failure|decrypt error|access denied")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it came of; urllib3 and requests keep those in their arguments too."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        within = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        waiting += [inner for inner in within if isinstance(inner, BaseException)]
