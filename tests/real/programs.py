"""Images of single programs of this machine, for examples that name an image of a registry."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.debian import UnavailableError, cache, locked, need
from tests.real.images import PYTHON_CHANGES, Rootfs, busybox_into, python_rootfs, shared_libraries

if TYPE_CHECKING:
    from tests.real.engine import Engine

#: Seconds for pip.
PIP_TIMEOUT = 120


def program_image(engine: Engine, command: str, package: str, *changes: str) -> str:
    """busybox and one program of a Debian package with its libraries, installed here where it is missing."""
    binary = Path(need(command, package)).resolve()
    tree = Rootfs()
    tree.file(binary, f"usr/bin/{command}", 0o755)
    shared_libraries(tree, [binary])
    busybox_into(tree)
    return engine.load_image(f"discoverd-test-{command}:{engine.session.id}", tree.bytes(), *changes)


def python_image(engine: Engine, requirements: Path) -> str:
    """As an image of Python, with what a file requires there already: a build from it needs no network."""
    packages = _packages(requirements)
    image = io.BytesIO(python_rootfs())
    with tarfile.open(fileobj=image, mode="a") as tar:
        for path in sorted(packages.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                tar.add(path, f"packages/{path.relative_to(packages)}")
    name = f"discoverd-test-python-{requirements.parent.name}:{engine.session.id}"
    quiet = "ENV PIP_DISABLE_PIP_VERSION_CHECK=1"  # it would wait for the network
    return engine.load_image(name, image.getvalue(), *PYTHON_CHANGES, "ENV PYTHONPATH=/packages", quiet)


def _packages(requirements: Path) -> Path:
    """Where these requirements are installed, by pip and once for all runs."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    target = cache() / f"packages-{version}-{digest}"
    with locked(cache() / "packages.lock"):
        if not target.is_dir():
            fresh = target.with_suffix(".new")
            pip = [
                sys.executable,
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "--quiet",
                "--no-compile",
            ]
            done = subprocess.run(
                [*pip, "--target", str(fresh), "--requirement", str(requirements)],
                capture_output=True,
                text=True,
                timeout=PIP_TIMEOUT,
                check=False,
            )
            if done.returncode:
                raise UnavailableError(f"pip cannot fetch {requirements.name}: {done.stderr.strip()[-300:]}")
            fresh.rename(target)
    return target
