"""Cookies of askers that come back, with what they are answered with: a lookup instead of a hash."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Cookies that are remembered, for how many seconds, and one in how many. Some 200 octets each.
MOST: Final = 4096
SECONDS: Final = 600
EVERY: Final = 16


class Remembered(dict[str, "OfAsker"]):
    """By asker's address as text. Each of them is a dict of cookies, as the query has them, to what is to
    stand in the reply; nothing where that is not to be decided here.
    """

    def __init__(self, answer: Callable[[bytes, str, int], bytes | None]) -> None:
        """``answer`` makes an answer to the cookie of an asker at a time (Unix time)."""
        super().__init__()
        self._answer = answer
        self._now = self._since = 0
        self._held = self._skipped = 0

    def begin(self) -> None:
        """Look at the clock; call this before each use."""
        self._now = now = int(time.time())
        if not 0 <= now - self._since < SECONDS:
            self.clear()
            self._since = now

    def __missing__(self, asker: str) -> OfAsker:
        if len(self) >= MOST:
            self.clear()
        made = self[asker] = OfAsker(self, asker)
        return made

    def clear(self) -> None:
        """Forget all of them."""
        super().clear()
        self._held = 0

    def make(self, cookies: OfAsker, cookie: bytes, asker: str) -> bytes:
        """Answer a cookie that is not remembered.

        One in so many will be, which is enough for who comes back. To remember each would cost 0.4 µs
        more for every cookie that is seen only once.
        """
        answer = self._answer(cookie, asker, self._now) or b""
        self._skipped += 1
        if self._skipped >= EVERY:
            self._skipped = 0
            if self._held >= MOST:
                self.clear()
            self._held += 1
            cookies[cookie] = answer
        return answer


class OfAsker(dict[bytes, bytes]):
    """The cookies of one address."""

    __slots__ = ("_all", "_asker")

    def __init__(self, remembered: Remembered, asker: str) -> None:
        super().__init__()
        self._all, self._asker = remembered, asker

    def __missing__(self, cookie: bytes) -> bytes:
        return self._all.make(self, cookie, self._asker)
