"""Cookies of askers that come back, with what they are answered with: a lookup instead of a hash."""

from __future__ import annotations

import time
from itertools import repeat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: Makes answers to cookies of one asker at a time (Unix time): to each None where that is no cookie.
    Answer = Callable[[Sequence[bytes], str, int], Sequence[bytes | None]]

#: Cookies that are remembered, for how many seconds, and one in how many. Some 200 octets each.
MOST: Final = 4096
SECONDS: Final = 600
EVERY: Final = 16


class Remembered:
    """By asker's address as text: cookies, as queries have them, to what is to stand in the replies."""

    def __init__(self, answer: Answer) -> None:
        self._make = answer
        self._known: dict[str, dict[bytes, bytes]] = {}
        self._now = self._since = 0
        self._held = self._skipped = 0

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def begin(self) -> None:
        """Look at the clock; call this before each use."""
        self._now = now = int(time.time())
        if not 0 <= now - self._since < SECONDS:
            self._forget()
            self._since = now

    def answer(self, cookie: bytes, asker: str) -> bytes:
        """What to answer this with; nothing to what is no cookie."""
        known = self._known.get(asker)
        answer = known.get(cookie) if known is not None else None
        return self.answer_all((cookie,), asker)[0] if answer is None else answer

    def answer_all(self, cookies: Sequence[bytes], asker: str) -> list[bytes]:
        """The same for many of one size."""
        known = self._known.get(asker)
        nothing = repeat(b"")
        answers = list(map(known.get, cookies, nothing)) if known is not None else [b""] * len(cookies)
        if all(answers):
            return answers
        missing = [i for i, answer in enumerate(answers) if not answer]
        made = self._make([cookies[i] for i in missing], asker, self._now)
        for i, answer in zip(missing, made, strict=True):
            answers[i] = answer or b""
        # One in so many is remembered, which is enough for who comes back. To remember each would cost
        # 0.4 µs more for every cookie that is seen only once.
        for i in missing[EVERY - 1 - self._skipped :: EVERY]:
            self._remember(asker, cookies[i], answers[i])
        self._skipped = (self._skipped + len(missing)) % EVERY
        return answers

    def _remember(self, asker: str, cookie: bytes, answer: bytes) -> None:
        if self._held >= MOST:
            self._forget()
        self._held += 1
        self._known.setdefault(asker, {})[cookie] = answer

    def _forget(self) -> None:
        self._known.clear()
        self._held = 0
