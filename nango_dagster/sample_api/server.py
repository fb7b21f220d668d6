"""The server of the sample API. Two lists have the shapes of two well-known APIs, a third one can be changed.

- `/api/v2/pokemon?offset=&limit=`: the 251 Pokémon of the first two generations, as PokéAPI lists them.
- `/repos/{owner}/{repo}/issues?state=&page=&per_page=`: issues of NangoHQ/nango and NangoHQ/nango-sync, as
  GitHub lists them. Numbers, states, labels, authors and days are facts, the titles are retold; unknown values
  are null.
- `/crm/contacts?limit=&after=`: the contacts of a customer, selected by `Authorization: Bearer acme-key` or
  `globex-key`. `PATCH` and `DELETE /crm/contacts/ID` change them.

>>> import json, urllib.request
>>> with serve() as url, urllib.request.urlopen(f"{url}/api/v2/pokemon?limit=1") as response:
...     json.load(response)["results"][0]["name"]
'bulbasaur'
"""

from __future__ import annotations

import argparse
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from .answer import Answer, number_in
from .contacts import Contacts


@contextmanager
def serve(port: int = 0) -> Iterator[str]:
    """Serve on the loopback interface while the block runs; yields the base URL. Port 0 selects a free port."""
    server = _Server(("127.0.0.1", port), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="sample-api", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(base: str, target: str) -> Answer:
    """The answer to a GET request for a path and query; `base` is this server's URL."""
    parts = urlsplit(target)
    params = dict(parse_qsl(parts.query))
    if parts.path.rstrip("/") == "/api/v2/pokemon":
        return pokemon(base, params)
    if path := re.fullmatch(r"/repos/([^/]+/[^/]+)/issues/?", parts.path):
        return issues(base, path.group(1), params)
    return Answer({"message": "Not Found"}, status=404)


def pokemon(base: str, params: Mapping[str, str]) -> Answer:
    """One page in PokéAPI's form: `next` and `previous` are URLs in the body."""
    rows = _data("pokemon.json")
    offset, limit = number_in(params, "offset", 0), number_in(params, "limit", 20) or 20

    def url(start: int) -> str:
        return f"{base}/api/v2/pokemon?{urlencode({'offset': start, 'limit': limit})}"

    return Answer(
        {
            "count": len(rows),
            "next": url(offset + limit) if offset + limit < len(rows) else None,
            "previous": url(max(0, offset - limit)) if offset else None,
            "results": rows[offset : offset + limit],
        }
    )


def issues(base: str, repo: str, params: Mapping[str, str]) -> Answer:
    """One page in GitHub's form: an array, with the other pages in the Link header; `state` is open by default."""
    repos: dict[str, list[dict[str, Any]]] = _data("issues.json")
    if repo not in repos:
        return Answer({"message": "Not Found"}, status=404)
    state = params.get("state", "open")
    rows = [row for row in repos[repo] if state in ("all", row["state"])]
    page, size = number_in(params, "page", 1) or 1, min(number_in(params, "per_page", 30) or 30, 100)
    last = max(1, -(-len(rows) // size))
    pages = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
    rels = ("next", "last") if page == 1 else ("prev", "first") if page >= last else tuple(pages)
    links = [f'<{base}/repos/{repo}/issues?{urlencode({**params, "page": pages[rel]})}>; rel="{rel}"' for rel in rels]
    headers = {"Link": ", ".join(links)} if last > 1 else {}
    return Answer(rows[(page - 1) * size : page * size], headers=headers)


@cache
def _data(name: str) -> Any:
    return json.loads(files(__package__).joinpath("data", name).read_text("utf-8"))


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.contacts = Contacts()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/crm/contacts":
            self._send(self.server.contacts.page(self._key, dict(parse_qsl(parts.query))))
        else:
            self._send(answer(f"http://{self.headers.get('Host', 'localhost')}", self.path))

    def do_PATCH(self) -> None:
        fields = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self._send(self.server.contacts.change(self._key, self._contact, fields))

    def do_DELETE(self) -> None:
        self._send(self.server.contacts.delete(self._key, self._contact))

    @property
    def _key(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    @property
    def _contact(self) -> int:
        """The id in `/crm/contacts/ID`; 0, which no contact has, for any other path."""
        path = re.fullmatch(r"/crm/contacts/([0-9]{1,9})", self.path)
        return int(path[1]) if path else 0

    def _send(self, response: Answer) -> None:
        body = json.dumps(response.body).encode()
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Write no line for a request."""


def main() -> None:
    """Serve until Ctrl-C, to try a config of your own."""
    parser = argparse.ArgumentParser(prog="python -m nango_dagster.sample_api", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) selects a free port")
    with serve(parser.parse_args().port) as url:
        paths = ("/api/v2/pokemon", "/repos/NangoHQ/nango/issues?state=all", "/crm/contacts")
        print(*(url + path for path in paths), sep="\n", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return
