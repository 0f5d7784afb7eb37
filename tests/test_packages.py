"""The packages, as those install them who have nothing else of discoverd: built, installed, and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import dns.message
import dns.query
import pytest

import discoverd
from tests.interpreters import VERSIONS, interpreter
from tests.real.conftest import or_left_out
from tests.real.debian import UnavailableError
from tests.wait import until

REPO = Path(__file__).resolve().parents[1]
NAME = f"discoverd-{discoverd.__version__}"
#: Seconds for pip, which fetches some twenty packages.
PIP_TIMEOUT = 240
LISTENING = re.compile(r"listening on dns://127\.0\.0\.1:(\d+)")

pytestmark = pytest.mark.timeout(600)


def build(kind: str, source: Path, target: Path) -> Path:
    program = f"from hatchling.build import build_{kind}; import sys; print(build_{kind}(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, unpacked, and the wheel that is built from nothing but that."""
    folder = tmp_path_factory.mktemp("packages")
    sdist = build("sdist", REPO, folder)
    with tarfile.open(sdist) as archive:
        # extractall() takes it since 3.11.4
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    return folder / NAME, build("wheel", folder / NAME, folder)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_wheel_from_the_source_distribution_is_one_from_here(
    packages: tuple[Path, Path], tmp_path: Path
) -> None:
    _, wheel = packages
    assert contents(wheel) == contents(build("wheel", REPO, tmp_path))


def test_the_source_distribution_is_all_that_is_under_version_control(packages: tuple[Path, Path]) -> None:
    source, _ = packages
    if not (REPO / ".git").exists():
        pytest.skip("this is no clone of the repository")
    listed = subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True)
    there = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert {name for name in listed.stdout.splitlines() if (REPO / name).exists()} <= there
    assert {name for name in there if "__pycache__" in name or name.startswith(".venv")} == set()


def test_the_tests_can_be_run_from_the_source_distribution(packages: tuple[Path, Path]) -> None:
    source, _ = packages
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for more in (
        ["--collect-only"],
        ["tests/test_packaging.py", "tests/test_readme.py"],
    ):
        done = subprocess.run(
            [*pytest_, *more], cwd=source, env=clean, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


class Installed:
    """An environment with a package of discoverd and what it needs, and nothing else."""

    def __init__(self, python: Path, folder: Path, source: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        # None of the variables of whoever runs the tests, but for what reaches the package index.
        kept = ("PIP_", "SSL_", "REQUESTS_", "CURL_", "HTTP", "http", "NO_PROXY", "no_proxy", "LANG", "LC_")
        self.env = {name: value for name, value in os.environ.items() if name.startswith(kept)}
        self.env |= {"PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)}
        self.env |= {"PIP_CACHE_DIR": _pip_cache()}
        self.run(str(python), "-m", "venv", str(folder / "venv"))
        locked = ("--require-hashes", "--requirement", str(source / "requirements.lock"))
        with or_left_out():
            try:
                self.run("pip", "install", "--quiet", "--no-compile", *locked)
            except AssertionError as error:
                raise UnavailableError(f"pip cannot install what discoverd needs: {error}") from None

    def run(self, command: str, *arguments: str) -> str:
        """What a command says; it must succeed."""
        known = self.bin / command
        done = subprocess.run(
            [known if known.exists() else command, *arguments],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{command} {arguments}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve_and_ask(self, config: Path) -> None:
        """Its server answers, and ends as it should."""
        log = self.folder / "log"
        flags = ("--listen", "127.0.0.1:0", "--http", "off", "--docker", "off", "--state-dir", "off")
        with log.open("w") as output:
            process = subprocess.Popen(
                [self.bin / "discoverd", "serve", "--config", str(config), *flags],
                cwd=self.folder,
                env=self.env,
                stdout=output,
                stderr=output,
            )
        try:
            until(
                lambda: LISTENING.search(log.read_text()) or process.poll() is not None,
                timeout=90,
                message=lambda: f"it listens:\n{log.read_text()}",
            )
            found = LISTENING.search(log.read_text())
            assert found, log.read_text()
            question = dns.message.make_query("db.shop.docker", "A")
            reply = dns.query.udp(question, "127.0.0.1", port=int(found[1]), timeout=30)
            assert [item.to_text() for rrset in reply.answer for item in rrset] == ["192.0.2.21"]
            process.terminate()
            assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
        assert "Traceback" not in log.read_text()


def _pip_cache() -> str:
    """pip's own, so that a package is fetched once for all interpreters and runs."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=True
    )
    return asked.stdout.strip()


@pytest.fixture(scope="module", params=VERSIONS)
def installed(
    request: pytest.FixtureRequest, packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    python = interpreter(request.param)
    if not python:
        variable = f"DISCOVERD_TEST_PYTHON_{request.param.replace('.', '_')}"
        pytest.skip(
            f"no Python {request.param} with venv is on this machine: install one, or name it in {variable}"
        )
    return Installed(python, tmp_path_factory.mktemp(f"python{request.param}"), packages[0])


def test_it_installs_and_runs(installed: Installed, packages: tuple[Path, Path]) -> None:
    source, wheel = packages
    config = source / "examples" / "discoverd.toml"
    # the wheel, then over it what pip itself builds of the source distribution, in an environment of its own
    for package in (wheel, wheel.with_name(f"{NAME}.tar.gz")):
        installed.run("pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(package))
        installed.run("pip", "check")
        assert installed.run("discoverd", "--version").split()[-1] == discoverd.__version__
        assert "Usage" in installed.run("python", "-m", "discoverd", "--help")
        program = "import discoverd; print(discoverd.__file__)"
        assert installed.run("python", "-c", program).startswith(str(installed.folder))
        assert "192.0.2.21" in installed.run("discoverd", "check", "--config", str(config))
        installed.serve_and_ask(config)
    assert (installed.folder / "venv/share/man/man1/discoverd.1").is_file()
