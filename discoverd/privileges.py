"""What a process that is not root may do all the same, by Linux capabilities(7).

The container image's interpreter is allowed two things as a file: to bind ports below 1024, and
to join groups. It is used for no more than that: to answer on port 53 where the engine keeps it
for root (the host's network, Podman), and to read an engine's socket whose group is another on
every host. Where these are taken away (``cap_drop``, ``no-new-privileges``) nothing is lost but that.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# linux/capability.h
_VERSION_3 = 0x20080522
_CAP_SETGID, _CAP_NET_BIND_SERVICE = 1 << 6, 1 << 10


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def use_what_is_allowed(sockets: Iterable[str]) -> None:
    """Make binding low ports effective, and join the groups of these sockets that would be closed otherwise.

    To be called before any thread is started: capabilities and groups belong to a thread. The
    right to join groups is given up again. Does nothing for root and where nothing is allowed.
    """
    if os.geteuid() == 0 or not hasattr(os, "setgroups"):
        return
    allowed = _permitted() & (_CAP_SETGID | _CAP_NET_BIND_SERVICE)
    if not allowed or not _set(allowed):
        return
    joined = groups_wanted(sockets) - set(os.getgroups())
    if joined and allowed & _CAP_SETGID:
        os.setgroups([*os.getgroups(), *sorted(joined)])
    _set(allowed & ~_CAP_SETGID)


def groups_wanted(sockets: Iterable[str]) -> set[int]:
    """The groups that may write to sockets that this process may not write to."""
    wanted = set()
    for path in sockets:
        try:
            status = Path(path).stat()
        except OSError:
            continue  # the watcher says what is wrong with it, and says it again when that changes
        group_may = status.st_mode & stat.S_IWGRP
        if stat.S_ISSOCK(status.st_mode) and group_may and not os.access(path, os.R_OK | os.W_OK):
            wanted.add(status.st_gid)
    return wanted


def _permitted() -> int:
    """The lower 32 capabilities that this thread may make effective."""
    sets = (_Sets * 2)()
    library = ctypes.CDLL(None)
    if not hasattr(library, "capget") or library.capget(ctypes.byref(_Header(_VERSION_3, 0)), sets):
        return 0
    return int(sets[0].permitted)


def _set(capabilities: int) -> bool:
    """Have these capabilities, permitted and effective, and no others; whether that was granted."""
    sets = (_Sets * 2)(_Sets(capabilities, capabilities, 0))
    return not ctypes.CDLL(None).capset(ctypes.byref(_Header(_VERSION_3, 0)), sets)
