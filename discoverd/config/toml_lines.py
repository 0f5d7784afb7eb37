"""Which line of a TOML document a key is on; tomllib gives values without positions.

The text was parsed by tomllib before, so this reads well-formed TOML only and needs no errors
of its own: it walks over keys and values and notes where each begins.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Keys of tables and indexes of arrays, from the root down.
KeyPath = tuple[str | int, ...]

_STRING = r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\])*"|\'[^\']*\''
_MARK, _BARE = r"[\[\]{},=.\n]", r"[^\s\[\]{},=.#]+"
_TOKEN = re.compile(rf"(?P<skip>[ \t\r]+|#[^\n]*)|{_STRING}|{_MARK}|{_BARE}", re.DOTALL)


class _Tokens:
    """The document's tokens with one of look-ahead; white space and comments are left out."""

    def __init__(self, text: str) -> None:
        self._stream = self._read(text)
        self._next = next(self._stream)
        self.line = 1

    @staticmethod
    def _read(text: str) -> Iterator[tuple[str, int]]:
        line = 1
        for match in _TOKEN.finditer(text):
            if match.lastgroup != "skip":
                yield match[0], line
            line += match[0].count("\n")
        while True:
            yield "", line

    def peek(self) -> str:
        return self._next[0]

    @property
    def next_line(self) -> int:
        return self._next[1]

    def take(self) -> str:
        token, self.line = self._next
        self._next = next(self._stream)
        return token

    def skip_newlines(self) -> None:
        while self.peek() == "\n":
            self.take()


def lines_of(text: str) -> dict[KeyPath, int]:
    """The line, from 1 on, of every table, key and array element of a well-formed TOML document."""
    tokens = _Tokens(text)
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    lengths: dict[KeyPath, int] = {}
    while tokens.peek():
        if tokens.peek() == "\n":
            tokens.take()
        elif tokens.peek() == "[":
            table = _header(tokens, lines, lengths)
        else:
            _pair(tokens, table, lines)
    return lines


def _header(tokens: _Tokens, lines: dict[KeyPath, int], lengths: dict[KeyPath, int]) -> KeyPath:
    """Read ``[a.b]`` or ``[[a.b]]``; a part that names an array of tables means its newest table."""
    tokens.take()
    is_array = tokens.peek() == "["
    if is_array:
        tokens.take()
    line = tokens.line
    path: KeyPath = ()
    parts = _key(tokens)
    for position, part in enumerate(parts, 1):
        path = (*path, part)
        lines.setdefault(path, line)
        if is_array and position == len(parts):
            lengths[path] = lengths.get(path, 0) + 1
        if path in lengths:
            path = (*path, lengths[path] - 1)
            lines.setdefault(path, line)
    tokens.take()
    if is_array:
        tokens.take()
    return path


def _key(tokens: _Tokens) -> list[str]:
    """Read a dotted key up to what follows it."""
    parts = []
    while True:
        token = tokens.take()
        parts.append(tomllib.loads(f"k = {token}")["k"] if token[0] in "\"'" else token)
        if tokens.peek() != ".":
            return parts
        tokens.take()


def _pair(tokens: _Tokens, table: KeyPath, lines: dict[KeyPath, int]) -> None:
    path = table
    parts = _key(tokens)
    for part in parts:
        path = (*path, part)
        lines.setdefault(path, tokens.line)
    tokens.take()
    _value(tokens, path, lines)


def _value(tokens: _Tokens, path: KeyPath, lines: dict[KeyPath, int]) -> None:
    opening = tokens.peek()
    if opening == "[":
        tokens.take()
        index = 0
        tokens.skip_newlines()
        while tokens.peek() != "]":
            lines[*path, index] = tokens.next_line
            _value(tokens, (*path, index), lines)
            index += 1
            _separator(tokens)
        tokens.take()
    elif opening == "{":
        tokens.take()
        tokens.skip_newlines()
        while tokens.peek() != "}":
            _pair(tokens, path, lines)
            _separator(tokens)
        tokens.take()
    else:
        while tokens.peek() not in {"", ",", "]", "}", "\n"}:  # 1.5 and dates are several tokens
            tokens.take()


def _separator(tokens: _Tokens) -> None:
    tokens.skip_newlines()
    if tokens.peek() == ",":
        tokens.take()
        tokens.skip_newlines()
