"""The live page in a real browser, beside a real server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.http.chromium import Chromium
from tests.http.have import or_skip
from tests.real.debian import REPO
from tests.real.rest import request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.real.server import Server

HOSTILE = "<img src=x onerror=window.owned=1>"
SHOWN = "document.querySelector('#services').textContent"
#: Where the documentation's pictures are; written there when asked for, else beside the test's files.
PICTURES = "DISCOVERD_SCREENSHOTS"


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    with or_skip():
        made = Chromium(tmp_path)
    async with made as running:
        yield running
        assert running.errors == []


async def opened(browser: Chromium, server: Server) -> None:
    await browser.send("Page.navigate", url=server.url + "/")
    await browser.until("document.querySelector('#state')?.dataset.state === 'live'")
    await browser.until("Number(document.querySelector('#instance-count').textContent) >= 0")


def put(server: Server, ident: str, **body: object) -> None:
    reply = server.api(
        f"/v1/instances/{ident}", "PUT", {"service": "pear", "addresses": ["10.0.0.7"], **body}
    )
    assert reply.status in (200, 201), reply.text


def test_the_page_is_locked_down(server: Server) -> None:
    for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
        reply = server.api(path)
        assert reply.status == 200
        assert reply.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        again = request("GET", server.url + path, headers={"If-None-Match": reply.headers["etag"]})
        assert (again.status, again.text) == (304, "")


def test_nothing_is_loaded_from_elsewhere() -> None:
    for file in (REPO / "discoverd" / "http" / "page").iterdir():
        if file.suffix in (".html", ".js", ".css"):
            text = file.read_text()
            assert "//" not in text.replace("// ", ""), file.name
            assert "innerHTML" not in text


async def test_what_comes_and_goes_is_shown_without_a_reload(server: Server, browser: Chromium) -> None:
    await browser.screen(1280, 900)
    await opened(browser, server)
    assert await browser.evaluate("document.querySelector('#instance-count').textContent") == "5"
    await browser.evaluate("window.same = 1")
    put(server, "pear-1", ports=["http=80"])
    await browser.until(f"{SHOWN}.includes('pear-1') && {SHOWN}.includes('1 of 1 healthy')")
    await browser.until("document.querySelector('#instance-count').textContent === '6'")
    put(server, "pear-1", addresses=["10.0.0.99"])
    await browser.until("document.querySelector('#services').textContent.includes('10.0.0.99')")
    server.api("/v1/instances/pear-1", "DELETE")
    await browser.until("!document.querySelector('#services').textContent.includes('pear-1')")
    log = await browser.evaluate("[...document.querySelectorAll('#changes li')].map(e => e.innerText)")
    assert [line.split()[1] for line in log] == ["−", "~", "+"]  # noqa: RUF001 - the sign the page shows
    assert await browser.evaluate("window.same") == 1


async def test_hostile_text_stays_text(server: Server, browser: Chromium) -> None:
    put(server, "evil", meta={HOSTILE.replace("=", ":"): HOSTILE}, tags=[HOSTILE.replace(" ", "/")])
    await opened(browser, server)
    await browser.until("document.querySelector('#services').textContent.includes('evil')")
    await browser.evaluate(f"document.querySelector('[name=name]').value = {HOSTILE.replace(' ', '/')!r}")
    await browser.evaluate("document.querySelector('#lookup').requestSubmit()")
    await browser.until("document.querySelector('#answer').innerText.includes('<img')")
    # and straight into what draws rows: whatever a source may let through
    value: dict[str, object] = {
        "id": HOSTILE,
        "source": HOSTILE,
        "service": HOSTILE,
        "scope": "",
        "names": [HOSTILE],
    }
    value |= {
        "state": "running",
        "health": "healthy",
        "addresses": [],
        "ports": [],
        "meta": {HOSTILE: HOSTILE},
    }
    told = json.dumps({"added": [value], "updated": [], "removed": []})
    await browser.evaluate(f"change({told})")
    await browser.until("document.querySelector('#services').textContent.includes('<img')")
    assert await browser.evaluate("document.querySelectorAll('img').length") == 0
    assert await browser.evaluate("window.owned") is None


async def test_the_look_up_explains(server: Server, browser: Chromium) -> None:
    await opened(browser, server)
    await browser.evaluate("document.querySelector('[name=name]').focus()")
    await browser.write("web.docker")
    await browser.press("Enter", windowsVirtualKeyCode=13, text="\r")
    await browser.until("document.querySelector('#answer').innerText.includes('NOERROR')")
    shown = await browser.evaluate("document.querySelector('#answer').innerText")
    assert "on the host itself" in shown
    assert "192.0.2.11" in shown
    assert shown.count("served") == 2
    await browser.evaluate("document.querySelector('[name=client]').value = 'nobody'")
    await browser.evaluate("document.querySelector('#lookup').requestSubmit()")
    await browser.until("document.querySelector('#answer .error')?.innerText.includes('is no IP address')")


async def test_filter_by_keyboard(server: Server, browser: Chromium) -> None:
    await opened(browser, server)
    await browser.press("/", text="/")
    assert await browser.evaluate("document.activeElement.id") == "filter"
    await browser.write("192.0.2.21")
    await browser.until("document.querySelectorAll('.service:not([hidden])').length === 1")
    assert "db.shop" in await browser.evaluate("document.querySelector('#services').textContent")
    await browser.write("nothing has this")
    await browser.until("!document.querySelector('#none').hidden")


async def test_it_comes_back_with_the_server(start: Callable[..., Server], browser: Chromium) -> None:
    server = start(folder="again")
    await opened(browser, server)
    port = server.http_port
    assert server.terminate() == 0
    await browser.until("document.querySelector('#state').dataset.state === 'reconnecting'")
    again = start(folder="again", http=f"127.0.0.1:{port}")
    put(again, "back")
    await browser.until("document.querySelector('#services').textContent.includes('back')")


@pytest.mark.parametrize("width", [360, 1280])
async def test_no_width_scrolls_sideways(server: Server, browser: Chromium, width: int) -> None:
    put(server, "x" * 128, tags=["t" * 63], addresses=["2001:db8:1111:2222:3333:4444:5555:6666"])
    await browser.screen(width, 800)
    await opened(browser, server)
    await browser.until("document.querySelector('#services').textContent.includes('xxx')")
    assert await browser.evaluate("document.documentElement.scrollWidth") <= width


async def test_two_thousand_instances_stay_smooth(
    start: Callable[..., Server], browser: Chromium, record_property: Callable[[str, object], None]
) -> None:
    table = '[[service]]\nname = "s{n}"\naddresses = {addresses}\nport = 80\n'
    many = "".join(
        table.format(n=n, addresses=json.dumps([f"10.{n}.0.{i}" for i in range(1, 21)])) for n in range(100)
    )
    server = start(config=many)
    await browser.screen(1280, 900)
    await opened(browser, server)
    await browser.until("document.querySelector('#instance-count').textContent === '2000'")
    # the longest time that the page did not react while instances came, changed and went
    await browser.evaluate(
        """window.longest = 0; (function tick(last) {
            requestAnimationFrame((now) => { longest = Math.max(longest, now - last); tick(now); });
        })(performance.now())"""
    )
    for n in range(30):
        put(server, f"pear-{n % 10}", weight=n)
    await browser.until("document.querySelector('#instance-count').textContent === '2010'")
    longest = await browser.evaluate("longest")
    record_property("measured longest frame of the page with 2,000 instances", f"{longest:.0f} ms")
    assert await browser.evaluate("document.querySelectorAll('#services tr').length") > 2000


async def test_pictures_for_the_documentation(server: Server, browser: Chromium, tmp_path: Path) -> None:
    folder = Path(os.environ.get(PICTURES, tmp_path))
    for name, width, dark in (("page", 1280, False), ("page-dark", 1280, True), ("page-phone", 390, False)):
        await browser.screen(width, 844, dark=dark)
        await opened(browser, server)
        await browser.evaluate("document.querySelector('[name=name]').value = 'web.docker'")
        await browser.evaluate("document.querySelector('#lookup').requestSubmit()")
        await browser.until("document.querySelector('#answer').innerText.includes('NOERROR')")
        picture = await browser.screenshot()
        (folder / f"{name}.png").write_bytes(picture)
        back = await browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(255, 255, 255)") != dark
        assert len(picture) > 5000
