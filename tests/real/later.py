"""A program of a later Debian than this one, with that one's C library: nothing is installed."""

from __future__ import annotations

from pathlib import Path

from tests.real.debian import UnavailableError, fetch


def later(command: str, package: str, suite: str, *libraries: str) -> tuple[str, ...]:
    """What starts ``command``; ``libraries`` are packages whose later versions it needs, libc6 aside.

    What else it is linked to is this machine's. Raises UnavailableError.
    """
    program = _found(fetch(package, suite), f"bin/{command}")
    system = fetch("libc6", suite)
    folders = [_found(system, "libc.so.6").parent]
    for library in libraries:
        folders += {path.parent for path in fetch(library, suite).rglob("*.so.*")}
    # this machine's own, which that loader does not look through by itself
    folders.append(Path("/") / folders[0].relative_to(system))
    loader = next(path for path in system.rglob("ld-linux-*.so.*") if not path.is_symlink())
    return (str(loader), "--library-path", ":".join(map(str, folders)), str(program))


def _found(root: Path, ending: str) -> Path:
    for path in root.rglob(ending.rpartition("/")[2]):
        if str(path).endswith(ending):
            return path
    raise UnavailableError(f"{root.parent.name} has no {ending}")
