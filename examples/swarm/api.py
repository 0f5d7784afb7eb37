"""Counts its visitors in redis, and says who it is."""

import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def count() -> int:
    """One more, as redis counts them."""
    with socket.create_connection(("db.docker", 6379), timeout=5) as connection:
        connection.sendall(b"INCR hits\r\n")
        return int(connection.makefile("rb").readline().lstrip(b":"))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = f"{socket.gethostname()} has seen number {count()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


def stop(*_: object) -> None:
    """Out of discoverd's answers by now; those who don't know yet are answered for two seconds."""
    threading.Timer(2, server.shutdown).start()


server = ThreadingHTTPServer(("", 8000), Handler)
signal.signal(signal.SIGTERM, stop)
server.serve_forever()
