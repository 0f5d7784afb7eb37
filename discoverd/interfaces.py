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


def interfaces() -> tuple[IPInterface, ...]:
    """The addresses of this machine and their networks, as rtnetlink(7) tells; empty where it cannot."""
    if not hasattr(socket, "AF_NETLINK"):
        return ()
    request = struct.pack("=IHHIIBBBBI", 24, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0, 0, 0, 0, 0, 0)
    found: list[IPInterface] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            netlink.settimeout(1)
            netlink.send(request)
            while _read_addresses(netlink.recv(65536), found):
                pass
    except OSError:
        return tuple(found)
    return tuple(found)


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
