"""Files of what sources last said: the same values come back, or none."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discoverd.catalog import Endpoint, Node, Status
from discoverd.model import Check, CheckKind, Instance, Network
from discoverd.warm import files
from discoverd.warm.codec import Followed, Known, UnusableError, decode, encode
from tests.build import ENGINE
from tests.strategies import instances

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = Followed(ENGINE, "0123abcd")
CONSUL = Followed("consul", "0123abcd", "")
NETWORK = Network(
    f"{ENGINE}/n", "shop", (ip_network("172.18.0.0/16"),), (ip_address("172.18.0.1"),), internal=True
)
NODE = Node("n1", "10.0.0.9", "dc1", (("a", "b"),), (("wan", "198.51.100.7"),))
ENDPOINT = Endpoint(NODE, "web-1", "Web", "10.0.0.8", 80, ("v1",), (("k", "ü"),), status=Status.WARNING)


@st.composite
def known(draw: st.DrawFn) -> Known:
    group: list[Instance] = draw(st.lists(instances(), max_size=3))
    checked = [replace(i, check=Check(CheckKind.HTTP, 80, "/up")) for i in group[:1]]
    networks = draw(st.sampled_from([(), (NETWORK,)]))
    return Known({"a": tuple(group), "b\n": tuple(checked)}, networks)


@given(known())
def test_what_is_written_is_read_again(said: Known) -> None:
    assert decode(SOURCE, b"".join(encode(SOURCE, said))) == said


def test_a_catalog_is_read_again() -> None:
    said = Known(
        datacenter="dc1",
        datacenters=frozenset({"dc1", "dc2"}),
        services={"web": (ENDPOINT, replace(ENDPOINT, id="web-2"))},
        nodes={"n1": NODE},
    )
    assert decode(CONSUL, b"".join(encode(CONSUL, said))) == said


@given(known())
def test_one_object_that_cannot_be_written_takes_no_other_along(said: Known) -> None:
    odd = Known({**said.objects, "odd": (Instance("a", "web", ENGINE, hostname="\ud800"),)}, said.networks)
    assert decode(SOURCE, b"".join(encode(SOURCE, odd))) == said


WHOLE = b"".join(encode(SOURCE, Known({}, (NETWORK,))))


@pytest.mark.parametrize("cut", range(len(WHOLE)))
def test_a_file_that_is_cut_off_anywhere_is_not_used(cut: int) -> None:
    with pytest.raises(UnusableError):
        decode(SOURCE, WHOLE[:cut])


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_file_with_any_other_octet_is_not_used(at: int, flip: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= flip
    try:
        assert decode(SOURCE, bytes(damaged)).networks == (NETWORK,)  # only the end's spelling differs
    except UnusableError:
        return
    assert at >= len(WHOLE) - len(WHOLE.splitlines()[-1])


def signed(*lines: object) -> bytes:
    """A file with a checksum that holds, whatever it says."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return (
        body + json.dumps({"lines": len(lines), "sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n"
    )


HEAD = {"file": "discoverd last known", "format": 1, "source": SOURCE.name, "settings": SOURCE.settings}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no file of discoverd's"),
        (b"\0" * 5000, "no file of discoverd's"),
        (b'{"version": 3}\n', "no file of discoverd's"),
        (signed(HEAD | {"format": 2}), "another version"),
        (signed(HEAD, {"object": "a", "future": 1}), "a newer version"),
        (signed(HEAD, {"network": {"id": "a", "name": "b", "future": 1}}), "a newer version"),
        (signed(HEAD, {"network": {"id": "a"}}), "line 2 cannot be read"),
        (signed(HEAD, {"network": {"id": "a", "name": "b", "subnets": ["x"]}}), "line 2 cannot be read"),
        (signed(HEAD, [1]), "line 2 cannot be read"),
        (signed(HEAD | {"source": "docker/other"}), "another source"),
        (signed(HEAD | {"settings": "ffff"}), "other settings"),
    ],
)
def test_what_is_no_file_of_this_source_says_why(data: bytes, why: str) -> None:
    with pytest.raises(UnusableError, match=why):
        decode(SOURCE, data)


def test_the_time_is_that_of_the_last_step_and_too_old_is_not_used(tmp_path: Path) -> None:
    now = time.time()
    assert files.read(tmp_path, SOURCE, 60) is None
    files.write(tmp_path, SOURCE, Known({}, (NETWORK,)), now - 50)
    found = files.read(tmp_path, SOURCE, 3600)
    assert found
    assert found.as_of == pytest.approx(now - 50)
    with pytest.raises(UnusableError, match=r"too old \(\d+ s, max_stale is 40\)"):
        files.read(tmp_path, SOURCE, 40)
    files.stamp(tmp_path, SOURCE, now)
    assert files.read(tmp_path, SOURCE, 40)
    # a machine whose clock is not set yet must not lose what it knows
    files.stamp(tmp_path, SOURCE, now + 1e6)
    found = files.read(tmp_path, SOURCE, 40)
    assert found
    assert found.as_of <= time.time()


def test_nobody_else_reads_it_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "last-known"
    files.write(folder, SOURCE, Known({}, (NETWORK,)), time.time())
    (path,) = folder.iterdir()
    assert path == files.path_of(folder, SOURCE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert files.set_aside(folder, SOURCE).read_bytes() == WHOLE


def test_more_than_is_kept_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path, SOURCE, Known({}, (NETWORK,)), time.time())
    monkeypatch.setattr(files, "FILE_MOST", 1000)
    monkeypatch.setattr(files, "CHUNK", 100)
    with pytest.raises(files.TooLargeError):
        files.write(tmp_path, SOURCE, Known({}, (NETWORK,) * 100), time.time())
    assert not list(tmp_path.iterdir())
