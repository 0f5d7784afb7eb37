"""Where a query log goes: a file, standard output, or a reader of frame streams. Blocking, for one thread."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from discoverd.querylog.dnstap import ACCEPT, FINISH, READY, START, STOP, accepts, control

#: Seconds that a reader has to take something, or to say that it does.
PATIENCE: Final = 5.0
#: Seconds between two attempts to reach a reader, and between two looks whether a file was moved away.
RETRY: Final = 1.0
#: Octets of a control frame, by its specification.
CONTROL_MOST: Final = 512
_U32: Final = struct.Struct("!I")


class Sink(Protocol):
    def write(self, data: bytes) -> None:
        """Take whole lines or frames. Raises OSError: then they are lost."""

    def close(self) -> None:
        """End it in good order, if that can be had at once."""


class FileSink:
    """A file that is appended to, and made anew after it was moved away (logrotate)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1
        self._looked = 0.0

    def write(self, data: bytes) -> None:
        now = time.monotonic()
        if self._handle < 0 or now - self._looked >= RETRY:
            self._looked = now
            self._follow()
        _write_all(self._handle, data)

    def _follow(self) -> None:
        if self._handle >= 0:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(self._path.stat(), os.fstat(self._handle)):
                    return
            self.close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._handle = os.open(self._path, flags, 0o640)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class StandardOutput:
    """What containers are logged by."""

    def write(self, data: bytes) -> None:
        _write_all(1, data)

    def close(self) -> None:
        return


class FrameSink:
    """A reader of frame streams at ``unix:///path`` or ``tcp://host:port``; both sides shake hands."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sock: socket.socket | None = None
        self._tried = float("-inf")

    def write(self, data: bytes) -> None:
        if self._sock is None:
            now = time.monotonic()
            if now - self._tried < RETRY:
                raise ConnectionError("no reader there")
            self._tried = now
            self._sock = self._connect()
        try:
            self._sock.sendall(data)
        except OSError:
            self._drop()
            raise

    def _connect(self) -> socket.socket:
        parts = urlsplit(self._url)
        if parts.scheme == "unix":
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            sock = socket.create_connection((str(parts.hostname), parts.port), PATIENCE)
        try:
            sock.settimeout(PATIENCE)
            if parts.scheme == "unix":
                sock.connect(parts.path)
            _shake_hands(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.settimeout(RETRY)
                self._sock.sendall(control(STOP))
                accepts(_control(self._sock), FINISH)
        self._drop()

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _shake_hands(sock: socket.socket) -> None:
    sock.sendall(control(READY, content_type=True))
    if not accepts(_control(sock), ACCEPT):
        raise ConnectionError("the reader does not take dnstap")
    sock.sendall(control(START, content_type=True))


def _control(sock: socket.socket) -> bytes:
    """The body of the control frame that comes next. Raises OSError."""
    escape, length = _U32.unpack(_exactly(sock, 4))[0], _U32.unpack(_exactly(sock, 4))[0]
    if escape or not 4 <= length <= CONTROL_MOST:
        raise ConnectionError("the reader does not speak frame streams")
    return _exactly(sock, length)


def _exactly(sock: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = sock.recv(count - len(got))
        if not more:
            raise ConnectionError("the reader closed the connection")
        got += more
    return got


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def sink_of(to: str) -> Sink:
    if to == "stdout":
        return StandardOutput()
    return FrameSink(to) if is_reader(to) else FileSink(Path(to))


def is_reader(to: str) -> bool:
    """Whether that is a reader of frame streams, and no file."""
    return to.startswith(("unix:", "tcp:"))
