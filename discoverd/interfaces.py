"""The addresses of this machine, as the kernel tells them."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

IPInterface = IPv4Interface | IPv6Interface

# linux/netlink.h and linux/rtnetlink.h
_NLMSG_ERROR, _NLMSG_DONE, _RTM_NEWADDR, _RTM_GETADDR = 2, 3, 20, 22
_NLM_F_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


#: Groups that are told of addresses, IPv4 and IPv6 (linux/rtnetlink.h).
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100


class Interfaces:
    """Callable that gives the addresses of this machine and their networks, as rtnetlink(7) tells; none where
    it cannot.

    It reads them anew only when the kernel has said that some came or went: each second somebody asks,
    and a host with many containers has many.
    """

    def __init__(self) -> None:
        self._told: socket.socket | None = None
        self._found: tuple[IPInterface, ...] = ()
        #: Whether the last reading failed: the next call reads again.
        self._missed = False

    def __call__(self) -> tuple[IPInterface, ...]:
        if not hasattr(socket, "AF_NETLINK"):
            return ()
        if self._told is None:
            self._told = _subscribe()  # before reading: what comes meanwhile is told
        elif not self._have_changed(self._told) and not self._missed:
            return self._found
        found, whole = _read()
        self._missed = not whole
        if whole or not self._found:  # else what was known is better than a part of what there is
            self._found = found
        return self._found

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        if self._told is not None:
            self._told.close()
            self._told = None

    def _have_changed(self, told: socket.socket) -> bool:
        changed = False
        try:
            while told.recv(65536):
                changed = True
        except BlockingIOError:
            return changed
        except OSError:  # more than there is room for
            return True
        return changed


def _subscribe() -> socket.socket | None:
    """A socket that is told when addresses come and go; None where there is none to be had."""
    netlink = None
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        netlink.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
    except OSError:
        if netlink is not None:
            netlink.close()
        return None
    return netlink


def _read() -> tuple[tuple[IPInterface, ...], bool]:
    """All of them now, and whether these are all."""
    request = struct.pack("=IHHIIBBBBI", 24, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0, 0, 0, 0, 0, 0)
    found: list[IPInterface] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            netlink.settimeout(1)
            netlink.send(request)
            while _read_addresses(netlink.recv(65536), found):
                pass
    except OSError:
        return tuple(found), False
    return tuple(found), True


#: Those of the network that this process is in.
interfaces = Interfaces()


def _read_addresses(data: bytes, found: list[IPInterface]) -> bool:
    """Add one datagram's addresses to ``found``; False when it was the last one."""
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if kind in {_NLMSG_DONE, _NLMSG_ERROR} or length < 16:
            return False
        if kind == _RTM_NEWADDR:
            prefix = data[17]
            attributes = dict(_attributes(data[24:length]))
            # IFA_ADDRESS is the peer's on a point-to-point link, IFA_LOCAL the own one
            packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if packed is not None:
                found.append(ip_interface((packed, prefix)))
        data = data[(length + 3) & ~3 :]
    return True


def _attributes(data: bytes) -> Iterable[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind, data[4:length]
        data = data[(length + 3) & ~3 :]
