"""The benchmark's API: a process of its own that has its records ready in memory, so that nobody ever waits for it.

`GET /issues?list=first&page_size=100` answers `{"count": N, "results": [...], "paging": {"next": {"after": CURSOR}}}`;
the next page is the same with `&after=CURSOR`, and `next` is null on the last one. `&since=TIME` asks for the changed
records alone. `GET /issues?account=17&size=50` is
the whole list of one account of many, in one page.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import parse_qs, urlsplit

import msgspec
import psutil

from . import records
from .records import List


@dataclass(frozen=True)
class Api:
    """A running API."""

    url: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """The CPU seconds of the process."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextlib.contextmanager
def serving(count: int) -> Iterator[Api]:
    """An API whose lists begin with `count` records; gone afterwards, however this process ends."""
    command = [sys.executable, "-m", "benchmarks.api", str(count)]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            yield Api(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
        finally:
            process.stdin.close()  # it ends when its input does


class _Lists:
    """All records as JSON, each once: the lists share what is the same in them."""

    def __init__(self, count: int) -> None:
        encode = msgspec.json.encode
        first = [encode(records.issue(index)) for index in range(count)]
        changed = {
            index: encode(records.issue(index, changed=True))
            for index in range(count)
            if records.is_changed("changed", index)
        }
        self._changes = list(changed.values())
        self._of: dict[str, list[bytes]] = {"first": first}
        for name in set(get_args(List)) - {"first"}:
            self._of[name] = [changed.get(index, first[index]) for index in records.indices(name, count)]

    def page(self, target: str) -> bytes:
        """The body that answers a request."""
        query = {name: values[-1] for name, values in parse_qs(urlsplit(target).query).items()}
        if "account" in query:
            return self._account(int(query["account"]), int(query["size"]))
        list_ = self._changes if "since" in query else self._of[query["list"]]
        begin = int(query.get("after", 0))
        end = begin + int(query["page_size"])
        following = b'{"after":"%d"}' % end if end < len(list_) else b"null"
        results = b",".join(list_[begin:end])
        return b'{"count":%d,"paging":{"next":%b},"results":[%b]}' % (len(list_), following, results)

    def _account(self, number: int, size: int) -> bytes:
        """Accounts have other records than their neighbours; with more accounts than records they come again."""
        list_ = self._of["first"]
        begin = number * size % (len(list_) - size + 1)
        return b'{"results":[%b]}' % b",".join(list_[begin : begin + size])


class _Connection(asyncio.Protocol):
    """HTTP/1.1, as much of it as a client that asks for one page after the other needs."""

    def __init__(self, lists: _Lists) -> None:
        self._lists = lists
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        for request in requests:
            self._answer(request.split(b" ", 2)[1].decode())

    def _answer(self, target: str) -> None:
        try:
            status, body = b"200 OK", self._lists.page(target)
        except (KeyError, ValueError) as error:
            status, body = b"400 Bad Request", msgspec.json.encode({"error": str(error)})
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)


async def _serve(count: int) -> None:
    lists = _Lists(count)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(lists), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _end_with_input() -> None:
    """End when the standard input is closed, which the parent process holds open."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    asyncio.run(_serve(int(sys.argv[1])))
