"""An engine of thousands of containers, replayed: what a real one said of one of them, over a real socket.

``python -m tests.real.many SOCKET COUNT``. Health changes, with their events, by GET of ``/_flap/NUMBER``
and ``/_storm/CONTAINERS/RATE/SECONDS``; ``/_stats`` tells what was asked of it. Inspects take a while, as
real ones do.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[1] / "data" / "docker" / "engine-26"
#: Seconds that a real engine takes for an inspect.
LATENCY = 0.002
NETWORK = "f" * 64


def container_id(number: int) -> str:
    return f"{number:012x}".ljust(64, "0")


def address(number: int) -> str:
    return f"10.{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


class Engine:
    def __init__(self, count: int) -> None:
        self.count = count
        self.healthy = [True] * count
        self.inspects = self.at_once = self.most_at_once = self.events = 0
        self.last_storm = 0.0
        self._streams: set[asyncio.StreamWriter] = set()
        doc: dict[str, Any] = json.loads((RECORDED / "plain.json").read_text())
        (network,) = doc["NetworkSettings"]["Networks"].values()
        network.update(IPAddress="ADDRESS", NetworkID=NETWORK, Aliases=[], DNSNames=["NAME"])
        doc["NetworkSettings"]["Networks"] = {"many": network}
        doc["State"]["Health"] = {"Status": "HEALTH", "FailingStreak": 0, "Log": []}
        self._template = json.dumps(doc | {"Id": "IDENTITY", "Name": "/NAME"})
        self._network = {"Id": NETWORK, "Name": "many", "Driver": "bridge", "Scope": "local"}
        self._network["IPAM"] = {"Config": [{"Subnet": "10.100.0.0/14", "Gateway": "10.100.0.1"}]}  # type: ignore[assignment]

    async def answer(self, path: str, writer: asyncio.StreamWriter) -> Any:
        match path.strip("/").split("/"):
            case ["version"]:
                return {"ApiVersion": "1.45"}
            case ["networks"]:
                return [self._network]
            case ["containers", "json"]:
                return [self.short(number) for number in range(self.count)]
            case ["containers", key, "json"]:
                return await self.inspect(int(key[:12], 16))
            case ["events"]:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                self._streams.add(writer)
                return None
            case ["_flap", number]:
                self.flap(int(number))
                return {}
            case ["_storm", containers, rate, seconds]:
                await self.storm(int(containers), int(rate), int(seconds))
                return {}
            case ["_stats"]:
                asked = {"inspects": self.inspects, "most_at_once": self.most_at_once, "events": self.events}
                return asked | {"last_storm": self.last_storm}
        return HTTPStatus.NOT_FOUND

    def short(self, number: int) -> dict[str, Any]:
        networks = {"many": {"NetworkID": NETWORK, "IPAddress": address(number)}}
        health = "healthy" if self.healthy[number] else "unhealthy"
        return {
            "Id": container_id(number),
            "Names": [f"/c{number}"],
            "State": "running",
            "Status": f"Up 3 seconds ({health})",
            "NetworkSettings": {"Networks": networks},
        }

    async def inspect(self, number: int) -> bytes:
        self.inspects += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(LATENCY)
        self.at_once -= 1
        health = "healthy" if self.healthy[number] else "unhealthy"
        filled = self._template.replace("IDENTITY", container_id(number)).replace("HEALTH", health)
        return filled.replace("ADDRESS", address(number)).replace("NAME", f"c{number}").encode()

    def flap(self, number: int) -> None:
        self.healthy[number] = not self.healthy[number]
        said = "healthy" if self.healthy[number] else "unhealthy"
        actor = {"ID": container_id(number), "Attributes": {"name": f"c{number}"}}
        event = {"Type": "container", "Action": f"health_status: {said}", "Actor": actor}
        line = json.dumps(event | {"timeNano": time.time_ns()}).encode() + b"\n"
        self.events += 1
        for stream in tuple(self._streams):
            stream.write(b"%x\r\n%s\r\n" % (len(line), line))

    async def storm(self, containers: int, rate: int, seconds: int) -> None:
        """An even number of changes for each, so that all end as they began."""
        began = time.monotonic()
        for step in range(rate * seconds):
            self.flap(step % containers)
            ahead = began + step / rate - time.monotonic()
            if ahead > 0.005:
                await asyncio.sleep(ahead)
        self.last_storm = time.monotonic() - began

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split()[1].decode().partition("?")[0]
                if path.startswith("/v1."):
                    path = "/" + path.split("/", 2)[2]
                found = await self.answer(path, writer)
                if found is None:
                    await writer.drain()
                    continue
                status = found if isinstance(found, HTTPStatus) else HTTPStatus.OK
                body = found if isinstance(found, bytes) else json.dumps(found).encode()
                kind = b"Content-Type: application/json"
                writer.write(b"HTTP/1.1 %d x\r\n%s\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body)))
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self._streams.discard(writer)
        finally:
            writer.close()


async def main(path: str, count: int) -> None:
    server = await asyncio.start_unix_server(Engine(count).serve, path)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
