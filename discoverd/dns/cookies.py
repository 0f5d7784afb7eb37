"""DNS cookies (RFC 7873): an asker learns one, and by it tells our replies from forgeries.

The server cookie has the layout of RFC 9018 section 4 under a version of the private range: its
hash is keyed BLAKE2s, which Python has in C, and not SipHash-2-4, which it has not. No other
server shares the secret, so no other needs to understand it.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import blake2s
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIENT_SIZE: Final = 8
#: Version, three reserved octets, time, hash (RFC 9018 section 4): all that we give out.
SERVER_SIZE: Final = 16
WHOLE_SIZE: Final = CLIENT_SIZE + SERVER_SIZE
#: Octets of an option without a server cookie, or with one of any server (RFC 7873 section 4).
LENGTHS: Final = frozenset({CLIENT_SIZE, *range(CLIENT_SIZE + 8, CLIENT_SIZE + 33)})

#: 240 is the first version for private use (RFC 9018 section 8).
PREFIX: Final = bytes((240, 0, 0, 0))
#: Seconds (RFC 9018 section 4.3): how old a cookie may be, how far ahead, and when it is renewed.
OLDEST, AHEAD, RENEW_AFTER = 3600, 300, 1800
#: Seconds that one key is used for; RFC 7873 section 7.1 asks for a change within 36 days.
KEY_SECONDS: Final = 86_400
SECRET_SIZE: Final = 32
#: Times are counted modulo this (RFC 1982).
WRAP: Final = 1 << 32


class Cookies:
    """The server's side. Processes that serve one address must be given one secret of 1 to 32 octets."""

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret or secrets.token_bytes(SECRET_SIZE)
        #: By day: a hash that has taken in its key. A copy of it costs half of a fresh one.
        self._keyed: dict[int, blake2s] = {}
        #: What stands between a client cookie and the hash, for one second.
        self._now, self._middle = -1, b""

    def answer(self, option: bytes, client: str, now: int) -> bytes | None:
        """The COOKIE option to answer with, 24 octets; None for one of an impossible length.

        ``client`` is the asker's address as text, ``now`` Unix time. A cookie of ours is given back
        as it is until it is half an hour old. 1 µs for a new one, 2 for one that comes back.
        """
        if len(option) != CLIENT_SIZE:
            if len(option) not in LENGTHS:
                return None
            age = self.age(option, client, now)
            if age is not None and age < RENEW_AFTER:
                return option
        head = option[:CLIENT_SIZE] + self._between(now)
        return head + self._hash(head, client, now)

    def answers(self, options: Sequence[bytes], client: str, now: int) -> list[bytes | None]:
        """The same for many of one asker and one size. Client cookies alone take half of the time each."""
        if len(options[0]) != CLIENT_SIZE:
            return [self.answer(option, client, now) for option in options]
        middle, asker = self._between(now), client.encode()
        copy = self._keyed_for(now).copy
        answers: list[bytes | None] = []
        for option in options:
            head, state = option + middle, copy()
            state.update(head + asker)
            answers.append(head + state.digest())
        return answers

    def _between(self, now: int) -> bytes:
        """What stands between a client cookie and the hash."""
        if now != self._now:
            self._now, self._middle = now, PREFIX + (now % WRAP).to_bytes(4, "big")
        return self._middle

    def age(self, option: bytes, client: str, now: int) -> int | None:
        """Seconds since we gave this cookie to this asker, negative where another's clock is ahead
        of ours; None where we did not, or too long ago.
        """
        head = option[:-8]
        if len(option) != WHOLE_SIZE or not head.startswith(PREFIX, CLIENT_SIZE):
            return None
        age = (now - int.from_bytes(head[-4:], "big") + AHEAD) % WRAP - AHEAD
        if age > OLDEST or not hmac.compare_digest(option[-8:], self._hash(head, client, now - age)):
            return None
        return age

    def _hash(self, head: bytes, client: str, when: int) -> bytes:
        state = self._keyed_for(when).copy()
        state.update(head + client.encode())
        return state.digest()

    def _keyed_for(self, when: int) -> blake2s:
        """A cookie says when it was made, and so which key it was made with."""
        day = when // KEY_SECONDS
        return self._keyed.get(day) or self._key(day)

    def _key(self, day: int) -> blake2s:
        key = blake2s(str(day).encode(), key=self._secret).digest()
        if len(self._keyed) > 1:
            self._keyed.clear()
        # As a prefix of fixed length: BLAKE2 is no weaker for that than with its key parameter, which
        # takes a block of its own. With an IPv4 address there is one block in all: 210 ns, not 300.
        keyed = self._keyed[day] = blake2s(key, digest_size=8)
        return keyed
