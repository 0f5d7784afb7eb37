"""What is shipped: a wheel with everything in it, and locks that anyone can install from."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import discoverd

REPO = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-image.lock")


def pins(lock: str) -> dict[str, str]:
    """Name -> version of everything a lock holds."""
    text = (REPO / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", text, re.MULTILINE))


def names(requirements: list[str | dict[str, str]]) -> set[str]:
    """What these name, without the groups that they include."""
    words = [each for each in requirements if isinstance(each, str)]
    return {re.split(r"[<>=!~ ;\[]", requirement, maxsplit=1)[0].lower() for requirement in words}


def test_a_wheel_has_every_module_and_the_command(tmp_path: Path) -> None:
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=REPO, check=True, capture_output=True, timeout=120
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"discoverd-{discoverd.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        info = f"discoverd-{discoverd.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    tracked = {
        str(path.relative_to(REPO))
        for path in (REPO / "discoverd").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tracked <= packed
    data = f"discoverd-{discoverd.__version__}.data"
    assert {name.partition("/")[0] for name in packed} == {"discoverd", info, data}
    assert f"{data}/data/share/man/man1/discoverd.1" in packed
    assert "discoverd = discoverd.cli:main" in entry_points
    assert f"{info}/licenses/LICENSE" in packed
    assert "License-Expression: Apache-2.0" in metadata


def test_the_locks_hold_what_the_project_asks_for() -> None:
    runtime, dev, image = map(pins, LOCKS)
    assert names(PROJECT["project"]["dependencies"]) <= set(runtime)
    assert names(PROJECT["dependency-groups"]["dev"]) <= set(dev)
    assert names(PROJECT["dependency-groups"]["image"]) <= set(image)
    assert runtime.items() | image.items() <= dev.items()


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locks_have_a_hash_for_everything_and_no_place_of_their_own(lock: str) -> None:
    text = (REPO / lock).read_text(encoding="utf-8")
    entries = re.findall(
        r"^[a-z0-9.-]+==[^\n]*\\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE
    )
    assert len(entries) == len(pins(lock)) > 10
    assert not re.search(r"--(?:index|extra|find)|https?:|file:|@ ", text)


def test_the_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", discoverd.__version__)
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "discoverd/__init__.py"


def test_ci_runs_what_people_run() -> None:
    script = REPO / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert [line for line in script.read_text(encoding="utf-8").splitlines() if not line.startswith("#")] == [
        'cd "$(dirname "$0")/.." && exec make test'
    ]


def test_make_says_what_it_can_do() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory"], cwd=REPO, check=True, capture_output=True, text=True
    )
    targets = {line.split()[1] for line in said.stdout.splitlines()}
    assert {"run", "test", "lint", "bench", "image", "lock", "clean"} <= targets


def make_venv(python: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Have make create a virtual environment with this interpreter, where there is no apt-get to help it."""
    tools = folder / "tools"
    tools.mkdir()
    for tool in ("id", "sh"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    target = folder / "venv" / "bin" / "python"
    make = str(shutil.which("make"))
    command = [make, "--no-print-directory", f"VENV={folder / 'venv'}", f"PYTHON={python}", str(target)]
    env = {"PATH": str(tools)}
    return subprocess.run(
        command, cwd=REPO, env=env, check=False, capture_output=True, text=True, timeout=120
    )


def interpreter(folder: Path, script: str) -> Path:
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_make_says_which_python_it_needs(tmp_path: Path) -> None:
    result = make_venv(interpreter(tmp_path, "exit 1"), tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[0].startswith("discoverd needs Python 3.11 or later: make PYTHON=")


def test_make_says_what_a_python_without_venv_lacks(tmp_path: Path) -> None:
    python = interpreter(tmp_path, 'case "$2" in *ensurepip*) exit 1;; esac')
    result = make_venv(python, tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    first = result.stderr.splitlines()[0]
    assert first == f"{python} cannot make virtual environments: apt-get install python3-venv, as root"
