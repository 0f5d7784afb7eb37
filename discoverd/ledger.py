"""Registrations on disk: one SQLite file that a crash at any moment leaves whole.

Write-ahead log with ``synchronous=FULL``: what :meth:`Ledger.apply` returned from survives the
process's death and the machine's. Blocking; the caller keeps it off the event loop.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = logging.getLogger("discoverd.ledger")

FILE = "registrations.db"
#: Who made the file (SQLite's application_id, "dscv") and in which layout.
APPLICATION, LAYOUT = 0x64736376, 1
#: SQLite's result codes for a file that is no database, or one that is damaged (sqlite.org/rescode.html).
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class LedgerError(Exception):
    """The file cannot be used; the text is one line that says which, why, and what to do."""


class ForeignError(Exception):
    """The file is not one of ours, or damaged."""


class Ledger:
    """An open file. One process at a time has it; the lock ends with the process, however it ends."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path

    def load(self) -> dict[str, str]:
        """Every document by its id."""
        return dict(self._connection.execute("SELECT id, body FROM registration ORDER BY id"))

    def apply(self, changes: Iterable[tuple[str, str | None]]) -> None:
        """Put (id, document) and remove (id, None), all of them or none. Raises sqlite3.Error."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for ident, body in changes:
                if body is None:
                    execute("DELETE FROM registration WHERE id = ?", (ident,))
                else:
                    execute("INSERT OR REPLACE INTO registration VALUES (?, ?)", (ident, body))
            execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._connection.close()


def open_ledger(directory: Path) -> Ledger:
    """The ledger of a state directory, made where there is none. Raises LedgerError.

    A damaged or foreign file is set aside under another name, with a line in the log.
    """
    path = directory / FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return _open(path)
        except ForeignError as why:
            aside = _set_aside(path)
            log.error("%s is %s: kept as %s, starting with an empty one", path, why, aside.name)  # noqa: TRY400
            return _open(path)
    except (OSError, sqlite3.Error, ForeignError) as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            text = "another discoverd uses it; give each its own --state-dir"
        else:
            text = f"{getattr(error, 'strerror', None) or error}; choose another --state-dir, or off"
        raise LedgerError(f"cannot keep registrations in {path}: {text}") from None


def _open(path: Path) -> Ledger:
    connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF in DAMAGED:
            raise ForeignError(f"damaged ({error})") from None
        raise
    except ForeignError:
        connection.close()
        raise
    return Ledger(connection, path)


def _prepare(connection: sqlite3.Connection) -> None:
    execute = connection.execute
    execute("PRAGMA locking_mode = EXCLUSIVE")
    # looked at before anything is written: a file that is not ours stays as it was
    (application,) = execute("PRAGMA application_id").fetchone()
    (layout,) = execute("PRAGMA user_version").fetchone()
    (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and (application, layout) != (APPLICATION, LAYOUT):
        raise ForeignError("not a ledger that this version of discoverd knows")
    execute("PRAGMA journal_mode = WAL")
    execute("PRAGMA synchronous = FULL")
    execute("BEGIN IMMEDIATE")  # takes the lock, which exclusive mode then keeps
    if not tables:
        execute("CREATE TABLE registration (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID")
        execute(f"PRAGMA application_id = {APPLICATION}")
        execute(f"PRAGMA user_version = {LAYOUT}")
    execute("COMMIT")
    (verdict,) = execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise ForeignError(f"damaged ({' '.join(verdict.split())})")
    execute("SELECT id, body FROM registration LIMIT 1").fetchall()


def _set_aside(path: Path) -> Path:
    """Rename a database; its log goes first, for a new database must not find the old one's log."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
