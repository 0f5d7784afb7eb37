"""How the docker client reaches an engine: its sockets, mended where its own are found wanting."""

from __future__ import annotations

import os
import socket
from typing import Any

import docker.transport.unixconn as docker_unix
import requests.adapters
import urllib3.connection

#: Seconds until a vanished peer is asked after, between two such questions, and how many are asked.
KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3))


def socket_there(path: str) -> tuple[int, int, int] | None:
    """Which socket is at a path now; None where none is, whose connections may go on all the same."""
    try:
        found = os.stat(path)  # noqa: PTH116 - half the time, for each call
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


class TcpAdapter(requests.adapters.HTTPAdapter):
    """Notices within some 20 seconds that the other end has vanished without a word."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        options = [*urllib3.connection.HTTPConnection.default_socket_options]
        options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))
        for name, value in KEEPALIVE:
            if hasattr(socket, name):  # not on every system
                options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
        super().init_poolmanager(*args, socket_options=options, **kwargs)


class UnixAdapter(docker_unix.UnixHTTPAdapter):
    """One pool of connections, each closed where it cannot connect.

    The docker client keeps a pool for every path asked for, so that no connection is used
    twice, and leaves sockets that cannot connect to the garbage collector.
    """

    def get_connection(self, url: bytes | str, proxies: Any = None) -> docker_unix.UnixHTTPConnectionPool:
        del url, proxies
        with self.pools.lock:
            if (pool := self.pools.get("")) is None:
                pool = self.pools[""] = _UnixPool(
                    "", self.socket_path, self.timeout, maxsize=self.max_pool_size
                )
            found: docker_unix.UnixHTTPConnectionPool = pool
            return found


class _UnixPool(docker_unix.UnixHTTPConnectionPool):
    def _new_conn(self) -> Any:
        return _UnixConnection(self.base_url, self.socket_path)


class _UnixConnection(docker_unix.UnixHTTPConnection):
    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.unix_socket)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
