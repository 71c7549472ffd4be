"""A real S3 server on loopback, and a line to it that can be cut."""

import os
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

BUCKET = "densities"
SECRET = "not-to-be-told"


@contextmanager
def serve_buckets(term: float) -> Iterator[str]:
    """A moto server with one bucket, the environment pointing at it; yields its address. Claims last `term` seconds."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _create_bucket(f"{address}/{BUCKET}")
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                patch.delenv(name)
            patch.setenv("AWS_ENDPOINT_URL", address)
            patch.setenv("AWS_REGION", "us-east-1")
            patch.setenv("AWS_ACCESS_KEY_ID", "tester")
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            patch.setenv("RHOFLOW_LEASE_SECONDS", str(term))
            yield address
    finally:
        server.kill()
        server.wait()


def _create_bucket(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(urllib.error.URLError):
            urllib.request.urlopen(urllib.request.Request(url, method="PUT")).close()
            return
        time.sleep(0.1)
    raise AssertionError(f"{url}: the server does not start")


class Line:
    """Passes connections on to a server, until it is cut."""

    def __init__(self, address: str) -> None:
        self._server = ("127.0.0.1", int(address.rsplit(":", 1)[1]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._is_whole = True
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self._is_whole = False
        self._thread.join()
        self._listener.close()

    def mend(self) -> None:
        self._is_whole = True
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        passing = []
        while self._is_whole:
            if select.select([self._listener], [], [], 0.05)[0]:
                thread = threading.Thread(target=self._pass, args=(self._listener.accept()[0],))
                thread.start()
                passing.append(thread)
        for thread in passing:
            thread.join()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server, suppress(ConnectionError):
            while self._is_whole:
                for ready in select.select([client, server], [], [], 0.05)[0]:
                    content = ready.recv(65536)
                    if not content:
                        return
                    (server if ready is client else client).sendall(content)
