"""The interpreters that discoverd is packaged for, where this machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = ("3.11", "3.12", "3.13")
_USABLE = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


def interpreter(version: str) -> Path | None:
    """One of this version that makes virtual environments, wherever people keep theirs; or none.

    ``DISCOVERD_TEST_PYTHON_3_12`` names one that is nowhere else.
    """
    for path in _places(version):
        try:
            asked = subprocess.run(
                [path, "-c", _USABLE], capture_output=True, text=True, timeout=60, check=False
            )
        except OSError:
            continue
        if asked.returncode == 0 and asked.stdout.strip() == version:
            return path
    return None


def _places(version: str) -> Iterator[Path]:
    if named := os.environ.get(f"DISCOVERD_TEST_PYTHON_{version.replace('.', '_')}"):
        yield Path(named)
        return
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        yield Path(sys.executable)
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    for folder in (
        Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions",
        Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or Path.home() / ".local/share/uv/python"),
        Path.home() / ".asdf/installs/python",
    ):
        yield from sorted(folder.glob(f"*{version}*/bin/python{version}"))
