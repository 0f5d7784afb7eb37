"""A disk of a test's own: small, to be filled, and to be found damaged, after which it is read-only."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.debian import UnavailableError, need

if TYPE_CHECKING:
    from collections.abc import Generator

KIB = 1024


class Disk:
    """An ext4 file system at ``path``. Raises UnavailableError where the machine does not allow it."""

    def __init__(self, folder: Path) -> None:
        self.path, self._image = folder / "disk", folder / "disk.image"
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(2 * KIB * KIB)
        # nothing is reserved for root, who fills it here
        _run(need("mkfs.ext4", "e2fsprogs"), "-q", "-m", "0", "-O", "^has_journal", str(self._image))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.path))

    def unmount(self) -> None:
        _run("umount", str(self.path))

    def fill(self) -> None:
        """Not one octet is left."""
        with (self.path / "hog").open("ab", buffering=0) as hog, contextlib.suppress(OSError):
            while hog.write(b"x" * KIB):
                pass

    def free(self) -> None:
        (self.path / "hog").unlink()

    def fail(self) -> None:
        """The kernel finds it damaged: from now on it is read-only, also for who has files open there."""
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        (device,) = [Path(device).name for device, where, *_ in mounts if where == str(self.path)]
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], capture_output=True, check=False)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(
            f"no disk of a test's own can be had: {' '.join(command)}: {done.stderr.strip()}"
        )


@contextlib.contextmanager
def disk(folder: Path) -> Generator[Disk]:
    made = Disk(folder)
    try:
        yield made
    finally:
        made.close()
