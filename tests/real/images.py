"""File trees of images, made from what this machine has, as tars for ``docker import``: no registry."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.debian import UnavailableError, codename, fetch, which

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.real.engine import Engine

#: As pid 1 a shell ends on a signal only when it traps it; ``sleep`` would take the whole stop timeout.
IDLE = "#!/bin/sh\ntrap 'exit 0' TERM INT\nsleep 2147483647 &\nwait\n"
#: Not part of a slim image, and large.
LEFT_OUT = {"__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo"}
#: What was installed beside the library, and Debian's word against installing more.
LEFT_OUT |= {"site-packages", "dist-packages", "EXTERNALLY-MANAGED"}
CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


class Rootfs:
    """A tar that grows: files, links and folders of an image, owned by root."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w")  # noqa: SIM115 - closed in bytes()
        self._have: set[str] = set()
        for folder in ("tmp", "var/tmp"):
            self._add(folder, tarfile.DIRTYPE, 0o1777)
        for folder in ("proc", "sys", "root"):
            self._add(folder, tarfile.DIRTYPE, 0o755)

    def _add(self, path: str, kind: bytes, mode: int, data: bytes = b"", target: str = "") -> None:
        if path in self._have:
            return
        parent = str(Path(path).parent)
        if parent != ".":
            self._add(parent, tarfile.DIRTYPE, 0o755)
        self._have.add(path)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.size, info.linkname = kind, mode, len(data), target
        self._tar.addfile(info, io.BytesIO(data))

    def write(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        data = content.encode() if isinstance(content, str) else content
        self._add(path, tarfile.REGTYPE, mode, data)

    def file(self, source: Path, path: str, mode: int | None = None) -> None:
        """A copy of a file of this machine; a link is followed."""
        self.write(path, source.read_bytes(), mode or (source.stat().st_mode & 0o755))

    def link(self, path: str, target: str) -> None:
        self._add(path, tarfile.SYMTYPE, 0o777, target=target)

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


@cache
def busybox_rootfs() -> bytes:
    """busybox with all its applets, the users root and nobody, and ``idle``, a command that only waits."""
    tree = Rootfs()
    busybox_into(tree)
    tree.write("bin/idle", IDLE, 0o755)
    return tree.bytes()


def busybox_into(tree: Rootfs) -> None:
    binary = _static_busybox()
    tree.file(binary, "bin/busybox", 0o755)
    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in applets:
        tree.link(f"bin/{applet}", "busybox")
    tree.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    tree.write("etc/group", "root:x:0:\nnogroup:x:65534:\n")
    tree.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")


def _static_busybox() -> Path:
    found = which("busybox")
    if found and not _libraries([Path(found)]):
        return Path(found)
    return fetch("busybox-static", codename()) / "bin/busybox"


@cache
def python_rootfs() -> bytes:
    """This interpreter with its library and pip, busybox, the C library, and this machine's CA bundle.

    It stands in for an image such as ``python:3.13-slim``: ``python``, ``pip`` and a shell are
    where that one has them. The interpreter's version is that of the tests.
    """
    tree = Rootfs()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Debian's interpreter has its folders compiled in; any other goes where an image of Python has it.
    prefix = "usr" if sys.base_prefix == "/usr" else "usr/local"
    binary = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    tree.file(binary, f"{prefix}/bin/{version}", 0o755)
    for name in ("python3", "python"):
        tree.link(f"usr/local/bin/{name}", f"/{prefix}/bin/{version}")
    library = Path(os.__file__).parent
    modules = list(_standard_library(library))
    for path in modules:
        tree.file(path, f"{prefix}/lib/{version}/{path.relative_to(library)}")
    _pip(
        tree, "usr/lib/python3/dist-packages" if prefix == "usr" else f"usr/local/lib/{version}/site-packages"
    )
    shared_libraries(tree, [binary, *(path for path in modules if path.suffix == ".so")])
    busybox_into(tree)
    bundle = _ca_bundle()
    if bundle:
        tree.file(bundle, CA_BUNDLE, 0o644)
    return tree.bytes()


PYTHON_CHANGES = (
    'CMD ["python3"]',
    "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    # The interpreter and pip each look elsewhere on their own.
    f"ENV SSL_CERT_FILE=/{CA_BUNDLE}",
    f"ENV PIP_CERT=/{CA_BUNDLE}",
)


def _standard_library(library: Path) -> Iterator[Path]:
    for path in sorted(library.rglob("*")):
        parts = path.relative_to(library).parts
        if LEFT_OUT.intersection(parts) or parts[0].startswith("config-") or path.suffix in {".a", ".pyc"}:
            continue
        if path.is_file() and not path.name.startswith("_tkinter"):
            yield path


def _pip(tree: Rootfs, site_packages: str) -> None:
    """pip, unpacked from the wheel that ensurepip installs."""
    import ensurepip

    elsewhere = Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "/nowhere")
    wheels = [*(Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"), *elsewhere.glob("pip-*.whl")]
    if not wheels:
        raise UnavailableError("no image of this interpreter can be made: its ensurepip has no wheel of pip")
    for path in elsewhere.glob("*.whl"):  # where they are part of the library, they are copied with it
        tree.file(path, str(path)[1:])
    with zipfile.ZipFile(wheels[0]) as wheel:
        for name in wheel.namelist():
            if not name.endswith("/"):
                tree.write(f"{site_packages}/{name}", wheel.read(name))
    tree.write("usr/local/bin/pip", '#!/bin/sh\nexec python3 -m pip "$@"\n', 0o755)


def shared_libraries(tree: Rootfs, binaries: list[Path]) -> None:
    libraries = _libraries(binaries)
    system = next(path.parent for path in libraries if path.name == "libc.so.6")
    # Loaded by the C library at run time, or what wheels with compiled parts may count on (PEP 600).
    for name in (
        "nss_files",
        "nss_dns",
        "resolv",
        "gcc_s",
        "stdc++",
        "m",
        "dl",
        "rt",
        "pthread",
        "util",
        "z",
    ):
        libraries.update(system.glob(f"lib{name}.so.?"))
    for path in libraries:
        # What lies beside an interpreter built from source goes where the loader looks without ld.so.cache.
        folder = path.parent if path.is_relative_to("/lib") or path.is_relative_to("/lib64") else system
        if path.is_relative_to("/usr/lib"):
            folder = path.parent
        tree.file(path, f"{folder.relative_to('/')}/{path.name}")


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    """What these are linked to, the loader included; nothing for a static one."""
    listed = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    return {Path(found) for found in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed, re.MULTILINE)}


def _ca_bundle() -> Path | None:
    import ssl

    paths = ssl.get_default_verify_paths()
    candidates = [paths.cafile, paths.openssl_cafile, f"/{CA_BUNDLE}", "/etc/pki/tls/certs/ca-bundle.crt"]
    return next((Path(path) for path in candidates if path and Path(path).is_file()), None)


def bases(dockerfile: str) -> list[str]:
    """The images that a Dockerfile starts from: ARG defaults filled in, its own stages left out."""
    defaults: dict[str, str] = {}
    stages: set[str] = set()
    found: list[str] = []
    for line in dockerfile.splitlines():
        words = [word for word in line.split() if not word.startswith("--")]
        if len(words) < 2:
            continue
        if words[0].upper() == "ARG":
            name, _, value = words[1].partition("=")
            defaults[name] = value.strip("\"'")
        elif words[0].upper() == "FROM":
            image = re.sub(r"\$\{?(\w+)(?::-[^}]*)?\}?", lambda ref: defaults.get(ref[1], ""), words[1])
            if image not in stages and image != "scratch" and image not in found:
                found.append(image)
            if len(words) > 3:
                stages.add(words[3])
    return found


def provide(engine: Engine, *names: str) -> list[str]:
    """Have images of these names in the engine: as they are there, pulled, or made here.

    Returns the names of those made here. Only images of Python can be: UnavailableError names any other.
    """
    made = []
    for name in dict.fromkeys(names):
        if engine.has_image(name) or engine.pull(name):
            continue
        if not re.match(r"(?:.*/)?python[:@]", name):
            raise UnavailableError(f"the image {name} cannot be pulled")
        made.append(engine.load_image(name, python_rootfs(), *PYTHON_CHANGES))
    return made
