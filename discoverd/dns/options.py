"""What a reply's OPT record says: cookies, NSID, keepalive. No other option is known, and so echoed."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from discoverd.dns import message
from discoverd.dns.cookies import CLIENT_SIZE, Cookies
from discoverd.dns.message import COOKIE, KEEPALIVE, NSID, MalformedError

if TYPE_CHECKING:
    from discoverd.dns.message import Edns

#: Seconds without a query after which a TCP connection is closed (RFC 7766 section 6.2.3), which is
#: also what clients that ask are told (RFC 7828, in tenths of seconds).
IDLE_SECONDS: Final = 10
#: Octets of the longest identity, so that a reply without records always fits into 512.
IDENTITY_MOST: Final = 128


def default_identity() -> str:
    """``discoverd`` and the host's name: which of several servers answered (RFC 5001)."""
    return f"discoverd {socket.gethostname()}"


class Options:
    """Answers to EDNS options. ``identity`` is what NSID says."""

    def __init__(self, udp_size: int, cookies: Cookies | None = None, identity: str | None = None) -> None:
        self.cookies = cookies or Cookies()
        self.identify(identity)
        self._size = udp_size
        #: Without options, by DO bit.
        self._plain = tuple(message.opt(udp_size, do=do) for do in (False, True))

    def identify(self, identity: str | None) -> None:
        """Say from now on that this server is this one; None is for ``discoverd`` and the host's name."""
        self.identity = (identity or default_identity()).encode()[:IDENTITY_MOST]

    def record(self, edns: Edns | None, asker: str | None, *, stream: bool = False, rcode: int = 0) -> bytes:
        """The OPT record of a reply: empty where the query has none (RFC 6891 section 6.1.1).

        ``asker`` is the address as text, None where it is not known (no cookies then); ``stream``
        says that this is a connection of our own. Raises MalformedError for a cookie of an
        impossible length (RFC 7873 section 5.2.2).
        """
        if edns is None:
            return b""
        if not edns.options and not rcode >> 4:
            return self._plain[edns.do]
        said: dict[int, bytes] = {}
        for code, data in edns.options:
            if code in said:
                continue  # RFC 7873 section 5.2: of several, the first counts
            if code == COOKIE and asker is not None:
                cookie = self.cookies.answer(data, asker, int(time.time()))
                if cookie is None:
                    raise MalformedError(f"a COOKIE option of {len(data)} octets")
                said[code] = cookie
            elif code == NSID:
                said[code] = self.identity
            elif code == KEEPALIVE and stream:
                said[code] = (10 * IDLE_SECONDS).to_bytes(2, "big")
        return message.opt(self._size, rcode >> 4, said.items(), do=edns.do)

    def plain(self, edns: Edns | None, rcode: int = 0) -> bytes:
        """The same without options: beside an error in them, or where their version is not ours."""
        if edns is None:
            return b""
        return message.opt(self._size, rcode >> 4, do=edns.do)

    def cookie_rcode(self, edns: Edns | None, asker: str | None) -> int | None:
        """What to say to a query without a question, which is about its cookie alone
        (RFC 7873 section 5.4); None where it has none.
        """
        options = dict(reversed(edns.options)) if edns is not None else {}
        cookie = options.get(COOKIE)
        if cookie is None or asker is None:
            return None
        if len(cookie) == CLIENT_SIZE or self.cookies.age(cookie, asker, int(time.time())) is not None:
            return message.NOERROR
        return message.BADCOOKIE
