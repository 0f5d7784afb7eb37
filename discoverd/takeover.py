"""A running server hands its sockets to the next one, and steps back once that one serves.

Both meet at a Unix socket in the state directory, which belongs to one user, and each looks at who the other
is. They speak JSON, one object a packet, with the sockets beside it (SCM_RIGHTS, unix(7)):

1. the new one says hello, and gets copies of all sockets; the old one goes on as if nothing had happened;
2. the new one, ready otherwise, says "yield": the old one lets go of HTTP and of the state directory, and
   goes on answering DNS;
3. the new one says "serving", and the old one answers what has come, and ends.

At any moment the new one may be gone instead: the old one takes up again what it let go of. What either
does not know in a message it passes over, so that versions may differ; ``take_over`` is the number of
this way of going about it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from discoverd import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger("discoverd.takeover")

#: The socket's name in the state directory.
FILE: Final = "take-over"
#: The way described above.
WAY: Final = 1
#: What sockets are for.
DNS, HTTP = "dns", "http"
#: Octets of a packet, and sockets beside it (the kernel's bound is 253).
PACKET_MOST: Final = 65536
SOCKETS_AT_ONCE: Final = 200
#: Seconds that the other side has for what takes it no time, and the new one to get ready.
PATIENCE: Final = 15.0
READY_SECONDS: Final = 120.0
#: ``struct ucred``: process, user, group.
UCRED: Final = struct.Struct("=iII")


class TakeOverError(Exception):
    """It cannot be done; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A bound socket and what it is for."""

    use: str
    sock: socket.socket


class Server(Protocol):
    """The server that is taken over from."""

    def sockets(self) -> Sequence[Handed]:
        """All that it listens on."""

    async def let_go(self) -> None:
        """Leave HTTP and the state directory to another process."""

    async def take_up(self) -> None:
        """Have both again."""


class Channel:
    """A connection of packets, each an object with sockets beside it. Raises TakeOverError when it ends."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    @property
    def user(self) -> int:
        """Who the other side is."""
        told = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        return int(UCRED.unpack(told)[1])

    def send(self, words: Mapping[str, object], sockets: Sequence[socket.socket] = ()) -> None:
        data = json.dumps(words).encode()
        try:
            if sockets:
                socket.send_fds(self._sock, [data], [each.fileno() for each in sockets])
            else:
                self._sock.send(data)
        except OSError as error:
            raise TakeOverError(f"it is gone: {error.strerror or error}") from None

    async def receive(self, seconds: float) -> tuple[dict[str, Any], list[socket.socket]]:
        try:
            async with asyncio.timeout(seconds):
                await self._readable()
        except TimeoutError:
            raise TakeOverError(f"it said nothing for {seconds:g} s") from None
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, PACKET_MOST, SOCKETS_AT_ONCE)
        except OSError as error:
            raise TakeOverError(f"it is gone: {error.strerror or error}") from None
        sockets = [socket.socket(fileno=number) for number in descriptors]
        for each in sockets:
            each.set_inheritable(False)  # recv_fds of Python 3.11 passes no flags on
        try:
            words = json.loads(data) if data else None
        except ValueError:
            words = ()
        if not isinstance(words, dict):
            for each in sockets:
                each.close()
            raise TakeOverError("it is gone" if words is None else "it speaks of something else")
        return words, sockets

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._sock, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._sock)

    def close(self) -> None:
        self._sock.close()


class Offer:
    """The running server's side, from :meth:`open` on. ``handed`` is set once another one serves."""

    def __init__(self, folder: Path, server: Server) -> None:
        self._folder, self._server = folder, server
        self._sock: socket.socket | None = None
        self.handed = asyncio.Event()

    def open(self) -> None:
        """Be there to be taken over from. The caller has the state directory for itself. Raises OSError."""
        sock = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            with suppress(FileNotFoundError):
                (self._folder / FILE).unlink()  # of a server that has ended
            with _short(self._folder) as path:
                # from the beginning nobody else's to connect to
                before = os.umask(0o177)
                try:
                    sock.bind(path)
                finally:
                    os.umask(before)
            sock.listen(4)
        except OSError:
            sock.close()
            raise
        self._sock = sock

    async def run(self) -> None:
        """Hand over to who comes, one at a time, until one has taken over."""
        assert self._sock is not None
        loop = asyncio.get_running_loop()
        with self._sock:
            while not self.handed.is_set():
                sock, _ = await loop.sock_accept(self._sock)
                channel = Channel(sock)
                try:
                    await self._hand_over(channel)
                except TakeOverError as error:
                    log.warning("the process that was to take over does not: %s; this one goes on", error)
                except Exception:  # it must not take this server down
                    log.exception("nothing was handed over; this process goes on")
                finally:
                    channel.close()

    async def _hand_over(self, channel: Channel) -> None:
        if channel.user not in {0, os.geteuid()}:
            log.warning("user %d may not take over", channel.user)
            return
        given = False
        try:
            hello, surplus = await channel.receive(PATIENCE)
            _close(surplus)
            way, who = hello.get("take_over"), f"process {hello.get('pid')}, version {hello.get('version')},"
            if not isinstance(way, int) or way < WAY:
                channel.send({"refused": "expected another version, or stop this one first"})
                return
            log.info("%s gets ready to take over", who)
            self._give_sockets(channel)
            while True:
                words, surplus = await channel.receive(READY_SECONDS)
                _close(surplus)
                if words.get("yield") and not given:
                    given = True
                    await self._server.let_go()
                    channel.send({"yielded": True})
                elif words.get("serving") and given:
                    log.info("%s serves from now on", who)
                    self.handed.set()
                    return
        except Exception:
            if given:
                await self._server.take_up()
            raise

    def _give_sockets(self, channel: Channel) -> None:
        left = list(self._server.sockets())
        while left:
            some, left = left[:SOCKETS_AT_ONCE], left[SOCKETS_AT_ONCE:]
            words = {"sockets": [each.use for each in some], "more": bool(left)}
            channel.send(_hello() | words, [each.sock for each in some])


class Taking:
    """The new server's side: :func:`begin` has brought the sockets."""

    def __init__(self, channel: Channel, sockets: tuple[Handed, ...]) -> None:
        self._channel, self.sockets = channel, sockets

    async def have_it_yield(self) -> None:
        """Have the old one let go of HTTP and the state directory. Raises TakeOverError."""
        self._channel.send({"yield": True})
        while True:
            words, surplus = await self._channel.receive(PATIENCE)
            _close(surplus)
            if words.get("yielded"):
                return

    def serving(self) -> None:
        """Have the old one end. Raises TakeOverError."""
        self._channel.send({"serving": True})

    def close(self) -> None:
        self._channel.close()


async def begin(folder: Path) -> Taking | None:
    """Meet who serves now; None where nobody does, or none that could hand over. Raises TakeOverError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    channel = Channel(sock)
    try:
        with _short(folder) as path:
            sock.connect(path)
        _expect_user(channel.user)
        channel.send(_hello())
        return Taking(channel, await _sockets_of(channel))
    except (FileNotFoundError, ConnectionRefusedError):
        channel.close()
        return None
    except BlockingIOError:
        channel.close()
        raise TakeOverError("others are waiting to take over already") from None
    except OSError as error:
        channel.close()
        raise TakeOverError(f"{error.strerror or error}") from None
    except BaseException:
        channel.close()
        raise


async def _sockets_of(channel: Channel) -> tuple[Handed, ...]:
    found: list[Handed] = []
    try:
        while True:
            words, sockets = await channel.receive(PATIENCE)
            _expect_way(words)
            uses = words.get("sockets")
            names = uses if isinstance(uses, list) else []
            found += [Handed(str(use), sock) for use, sock in zip(names, sockets, strict=False)]
            _close(sockets[len(names) :])
            if not words.get("more"):
                return tuple(found)
    except BaseException:
        _close(each.sock for each in found)
        raise


def _expect_user(user: int) -> None:
    if os.geteuid() not in {0, user}:
        raise TakeOverError(f"the server there runs as user {user}, expected {os.geteuid()}")


def _expect_way(words: Mapping[str, object]) -> None:
    if "refused" in words:
        raise TakeOverError(f"the server there refuses: {words['refused']}")
    if words.get("take_over") != WAY:
        version = words.get("version")
        raise TakeOverError(f"the server there, version {version}, hands over in another way: stop it first")


def _hello() -> dict[str, object]:
    return {"take_over": WAY, "version": __version__, "pid": os.getpid()}


def _close(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()


class _short:  # noqa: N801 - a with statement's word
    """The socket's path by way of its folder's descriptor: sun_path has 108 octets, folders may be deeper."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}/{FILE}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
