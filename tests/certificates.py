"""A certificate authority of a test's own, by the real openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.real.debian import need

if TYPE_CHECKING:
    from pathlib import Path

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    cert: str
    key: str


class Authority:
    """``ca`` is its certificate; all files are in ``folder``."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.ca, self._key = str(folder / "ca.pem"), str(folder / "ca-key.pem")
        subject = ("-subj", f"/CN={name}", "-days", "2")
        self._run("req", "-x509", *CURVE, "-keyout", self._key, "-out", self.ca, *subject)

    def sign(self, name: str, *alternatives: str, days: int = 1) -> Pair:
        """A pair for ``name``; ``alternatives`` such as ``IP:127.0.0.1``. Expired with negative ``days``."""
        made = Pair(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}-key.pem"))
        request = str(self._folder / f"{name}.csr")
        extra = ("-addext", f"subjectAltName={','.join(alternatives)}") if alternatives else ()
        self._run("req", "-new", *CURVE, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}", *extra)
        signing = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-days", str(days))
        self._run("x509", "-req", "-in", request, *signing, "-copy_extensions", "copyall", "-out", made.cert)
        return made

    def _run(self, *arguments: str) -> None:
        command = [need("openssl", "openssl"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
