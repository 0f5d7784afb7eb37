"""The live page beside a real engine: containers that start and die are shown without a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.http.chromium import Chromium
from tests.http.have import or_skip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.conftest import Containers
    from tests.real.engine import Engine
    from tests.real.server import Server

HOSTILE = "<img src=x onerror=window.owned=1>"
SHOWN = "document.querySelector('#services').textContent"


async def test_containers_come_and_go_on_the_page(
    engine: Engine,
    containers: Containers,
    discoverd: Callable[..., Server],
    unique: Callable[[str], str],
    tmp_path: Path,
) -> None:
    with or_skip():
        browser = Chromium(tmp_path)
    name = unique("page")
    server = discoverd(docker=engine)
    server.wait_source("live")
    async with browser:
        await browser.send("Page.navigate", url=server.url + "/")
        await browser.until("document.querySelector('#state')?.dataset.state === 'live'")
        await browser.evaluate("window.same = 1")
        # an engine lets no such thing into a name, but anything into a label
        containers.run(name, "--label", f"discoverd.meta.note={HOSTILE}")
        await browser.until(f"{SHOWN}.includes('{name}') && {SHOWN}.includes('onerror')")
        engine.docker("kill", name)
        rows = f"[...document.querySelectorAll('#services tr')].filter(r => r.textContent.includes('{name}'))"
        await browser.until(f"!{rows}.some(row => row.querySelector('.healthy'))")
        told = f"[...document.querySelectorAll('#changes li')].filter(e => e.textContent.includes('{name}'))"
        assert await browser.evaluate(f"{told}.length") >= 2
        assert await browser.evaluate("window.same") == 1
        assert await browser.evaluate("document.querySelectorAll('img').length") == 0
        assert await browser.evaluate("window.owned") is None
        assert browser.errors == []
