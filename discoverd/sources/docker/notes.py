"""What a container's owner should know: collected where it is seen, logged once by the watcher."""

from __future__ import annotations

from discoverd.naming import to_label, to_name


class Notes:
    """The remarks on one container, each once, in the order they came up."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)

    def add(self, line: str) -> None:
        self._lines[line] = None

    def label(self, what: str, text: str) -> str:
        """One DNS label made of ``text``, or ""; says so when that changed it."""
        return self._say(what, text, to_label(text))

    def name(self, what: str, text: str, *, wildcard: bool = False) -> str:
        """A dotted name made of ``text``, or ""; says so when that changed it."""
        return self._say(what, text, to_name(text, wildcard=wildcard))

    def _say(self, what: str, text: str, made: str | None) -> str:
        if made is None:
            self.add(f"{what} {text!r} cannot be made a DNS name: left out")
        elif made != text.strip().strip(".").lower():
            self.add(f"{what} {text!r} is no DNS name: answering as {made!r}")
        return made or ""
