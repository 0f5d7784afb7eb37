"""Files of what sources last said: one a source, replaced whole, whatever moment the process dies at.

Blocking; the caller keeps it off the event loop. A file's time of modification says until when what it
says was in step with its source.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from discoverd.warm.codec import UnusableError, decode, encode

if TYPE_CHECKING:
    from pathlib import Path

    from discoverd.warm.codec import Followed, Known

#: Octets of a file; some 60,000 instances.
FILE_MOST: Final = 64 * 1024 * 1024
#: Octets between two writes. Each lets go of the interpreter, so that answers need not wait for it.
CHUNK: Final = 16 * 1024


class TooLargeError(Exception):
    """There is more to keep than is kept."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a file says, and the Unix time until when that was in step."""

    known: Known
    as_of: float


def path_of(folder: Path, source: Followed) -> Path:
    return folder / f"{quote(source.name, safe='')}.jsonl"


def write(folder: Path, source: Followed, known: Known, as_of: float) -> None:
    """Replace a source's file; a crash leaves the old one or the new one. Raises OSError, TooLargeError.

    What is more than is kept leaves no file: the old one would be ever more wrong.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = path_of(folder, source)
    fresh = path.with_name(f".{path.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            _pour(handle, source, known)
            os.utime(handle, (as_of, as_of))
            os.fsync(handle)
        finally:
            os.close(handle)
        fresh.rename(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
            if isinstance(error, TooLargeError):
                path.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def _pour(handle: int, source: Followed, known: Known) -> None:
    waiting: list[bytes] = []
    size = written = 0
    for line in encode(source, known):
        waiting.append(line)
        size += len(line)
        if size >= CHUNK:
            written += size
            _write_all(handle, b"".join(waiting))
            waiting, size = [], 0
            if written > FILE_MOST:
                raise TooLargeError(f"more than {FILE_MOST >> 20} MiB")
    _write_all(handle, b"".join(waiting))


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def stamp(folder: Path, source: Followed, as_of: float) -> None:
    """Say that a file was in step until then. Raises OSError."""
    os.utime(path_of(folder, source), (as_of, as_of))


def read(folder: Path, source: Followed, most_seconds: float) -> Found | None:
    """What is kept of a source; None where nothing is. Raises OSError, UnusableError.

    A time to come counts as now: clocks are set while machines start.
    """
    path = path_of(folder, source)
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size > FILE_MOST + CHUNK:
                raise UnusableError(f"too large ({status.st_size} octets)")
            now = time.time()
            as_of = min(status.st_mtime, now)
            if now - as_of > most_seconds:
                raise UnusableError(f"too old ({now - as_of:.0f} s, max_stale is {most_seconds:.0f})")
            return Found(decode(source, file.read()), as_of)
    except FileNotFoundError:
        return None


def set_aside(folder: Path, source: Followed) -> Path:
    """Rename a source's file, in the place of what was set aside before. Raises OSError."""
    path = path_of(folder, source)
    return path.rename(path.with_name(f"{path.name}.set-aside"))
