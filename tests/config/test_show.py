from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from discoverd.config import load
from discoverd.config.machine import Machine
from discoverd.config.show import as_toml

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_shown_is_a_file_that_means_the_same(tmp_path: Path) -> None:
    text = """
docker = [{ url = "tcp://a:1", host_address = "10.0.0.1" }]
ttl = 9
[forward.zones]
"corp.example" = ["10.0.0.1"]
[[service]]
name = "web"
addresses = ["10.0.0.1", "2001:db8::1"]
ports = ["http=80/tcp", 81]
meta = { note = "quote \\" and \\u007f and \\u00e9", "a key" = "x" }
"""
    (tmp_path / "discoverd.toml").write_text(text)
    first = load({}, {}, tmp_path, Machine())
    shown = as_toml(first)
    (tmp_path / "discoverd.toml").write_text(shown)
    again = load({}, {}, tmp_path, Machine())
    assert again.redacted() == first.redacted()
    assert tomllib.loads(shown)["service"][0]["ports"] == ["http=80/tcp", "81/tcp"]
    assert "ttl = 9  # discoverd.toml:3\n" in shown
    assert 'scope = "prefer"  # default\n' in shown


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "discoverd.toml").write_text(
        'http.token = "hush"\nconsul = { url = "http://c", token = "hush" }\n'
    )
    shown = as_toml(load({}, {}, tmp_path, Machine()))
    assert "hush" not in shown
    assert shown.count('token = "***"') == 2
