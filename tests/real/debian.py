"""What the tests need from Debian: packages of this system, and single packages of other suites.

Both come through the mirror that the machine is configured for. Packages of other suites are
unpacked into the test cache; the system's apt configuration, lists and dpkg database stay as
they are, and nothing of it needs root.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).resolve().parents[2]
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: A root shell's PATH may leave these out, and dockerd, ip and iptables live there.
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
#: Seconds for one run of apt, downloads included.
APT_TIMEOUT = 280


class UnavailableError(Exception):
    """Something a suite needs cannot be had on this machine; the text says what and why."""


def cache() -> Path:
    """Where downloads are kept between runs: ``$DISCOVERD_TEST_CACHE`` or ``.cache/`` of the repository."""
    path = Path(os.environ.get("DISCOVERD_TEST_CACHE") or REPO / ".cache").resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One at a time among all processes that name this file."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def which(command: str) -> str | None:
    return shutil.which(command, path=SEARCH)


def need(command: str, package: str) -> str:
    """The path of ``command``; installed from the Debian ``package`` where it is missing.

    Raises UnavailableError where it is missing and this is not Debian, or the caller not root.
    """
    if not (found := which(command)):
        install(package, why=f"{command} is missing")
        found = which(command)
    if not found:
        raise UnavailableError(f"{command} is missing, and Debian's package {package} did not bring it")
    return found


def install(*packages: str, why: str) -> None:
    """Install packages of this system's own release; ``why`` begins the message when that cannot be done."""
    wanted = " ".join(packages)
    if not which("apt-get"):
        raise UnavailableError(f"{why}: install {wanted} (there is no apt-get here to do it)")
    if os.geteuid() != 0:
        raise UnavailableError(f"{why}: install {wanted}, or run the tests as root to have it done")
    log = cache() / "apt-install.log"
    with locked(cache() / "apt-install.lock"):
        command = ("install", "-y", "-qq", "--no-install-recommends", *packages)
        failed = _apt(log, *command)
        if failed:  # the lists of a fresh machine are empty, and old ones name files that are gone
            _apt(log, "update", "-qq")
            failed = _apt(log, *command)
        if failed:
            raise UnavailableError(f"{why}: apt-get install {wanted} failed: {_last_line(log)}")


def _apt(log: Path, *arguments: str) -> int:
    # Output goes to a file: a package's script may start a daemon, which would keep a pipe open for ever.
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with log.open("a") as out:
        return subprocess.run(
            ["apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=APT_TIMEOUT,
            check=False,
        ).returncode


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return next(
        (line for line in reversed(lines) if line.startswith("E:")), lines[-1] if lines else "no output"
    )


def codename() -> str:
    """This system's Debian release, such as ``bookworm``."""
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    raise UnavailableError("/etc/os-release names no VERSION_CODENAME: is this Debian?")


def fetch(package: str, suite: str) -> Path:
    """The folder that ``package`` of the Debian ``suite`` is unpacked in.

    apt checks the archive's signature against debian-archive-keyring and the package against the
    signed index. Raises UnavailableError where that cannot be done.
    """
    home = cache() / f"{package}-{suite}"
    root = home / "root"
    home.mkdir(exist_ok=True)
    with locked(home / "lock"):
        if not root.is_dir():
            for tool in ("apt-get", "dpkg-deb"):
                if not which(tool):
                    raise UnavailableError(f"{package} cannot be fetched: {tool} is missing")
            if not KEYRING.is_file():
                raise UnavailableError(
                    f"{package} cannot be fetched: no {KEYRING} (package debian-archive-keyring)"
                )
            _download(package, suite, home)
            fresh = home / "root.new"
            shutil.rmtree(fresh, ignore_errors=True)
            archive = next((home / "apt" / "archives").glob(f"{package}_*.deb"))
            _run(["dpkg-deb", "-x", str(archive), str(fresh)], what=f"unpack {archive.name}")
            fresh.rename(root)
            shutil.rmtree(home / "apt")
    return root


def _download(package: str, suite: str, home: Path) -> None:
    apt = home / "apt"
    shutil.rmtree(apt, ignore_errors=True)
    for folder in ("lists/partial", "archives/partial", "empty.d"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    arch = _run(["dpkg", "--print-architecture"], what="ask for the architecture").strip()
    (apt / "sources.list").write_text(f"deb [arch={arch} signed-by={KEYRING}] {mirror()} {suite} main\n")
    # /etc/apt/apt.conf.d is still read (proxy, certificates); all else stays in the cache folder.
    settings = {
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": apt / "empty.d",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": apt / "empty.d",
        "Dir::State": apt,
        "Dir::State::Lists": apt / "lists",
        "Dir::State::Status": apt / "status",
        "Dir::Cache": apt,
        "Dir::Cache::Archives": apt / "archives",
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::Check-Valid-Until": "false",
    }
    command = [
        "apt-get",
        "-qq",
        *(word for key, value in settings.items() for word in ("-o", f"{key}={value}")),
    ]
    _run([*command, "update"], what=f"read the package index of Debian {suite}")
    _run([*command, "download", package], what=f"fetch {package} of Debian {suite}", cwd=apt / "archives")


def _run(command: list[str], *, what: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=APT_TIMEOUT,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise UnavailableError(f"cannot {what}: {(done.stderr.strip() or done.stdout.strip())[-300:]}")
    return done.stdout


def mirror() -> str:
    """The Debian mirror this machine is configured for: where its own release's ``main`` comes from."""
    release = codename()
    for uri, suites, components in _sources():
        if release in suites and "main" in components:
            return uri
    raise UnavailableError(f"no Debian mirror for {release} in /etc/apt/sources.list or sources.list.d")


def _sources() -> Iterator[tuple[str, list[str], list[str]]]:
    etc = Path("/etc/apt")
    for path in sorted((etc / "sources.list.d").glob("*.sources")):
        for stanza in path.read_text().split("\n\n"):
            fields = {
                key.strip().lower(): value.split()
                for key, colon, value in (line.partition(":") for line in stanza.splitlines())
                if colon and not key.startswith("#")
            }
            for uri in fields.get("uris", [])[:1]:
                yield uri, fields.get("suites", []), fields.get("components", [])
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]:
        for line in path.read_text().splitlines() if path.is_file() else []:
            words = line.split()
            if words[:1] == ["deb"]:
                while len(words) > 1 and "://" not in words[1]:  # options in brackets
                    del words[1]
                if len(words) > 2:
                    yield words[1], words[2:3], words[3:]
