"""A server for each test that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.dns.serving import Serving, instance, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


WEB: dict[str, Any] = {"scope": "shop", "ports": (80, 8080), "meta": (("path", "/"),)}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    """Serves ``web`` (three instances, ports and metadata), ``six`` (IPv6), ``wild`` and ``*.wild``."""
    async with serving(tmp_path) as made:
        made.publish(
            *(
                instance(
                    "web", f"192.0.2.{i}", ports=(80, 8080), meta=(("path", "/"),), scope="shop", replica=i
                )
                for i in (1, 2, 3)
            ),
            instance("six", "2001:db8::6", ports=(443,)),
            instance("wild", "192.0.2.9", extra_names=("*.wild", "deep.below.here")),
        )
        yield made
