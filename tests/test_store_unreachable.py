"""A PostgreSQL server that goes away while it is used: every route answers 503, and works when it is back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from nango_dagster.config import Sync
from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database, syncs
from tests.apis import URL, calling

HEADERS = {"Connection-Id": "default", "Provider-Config-Key": "default"}


class Relay:
    """A TCP relay to PostgreSQL whose connections can be cut, as a crash of the server cuts them."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.is_down = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def cut(self) -> None:
        """Close every connection, without the server's last words."""
        for connection in self._sockets:
            connection.close() if connection.fileno() == -1 else connection.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_down:
                client.close()
                continue
            if isinstance(self._target, str):
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
            else:
                server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            end.close()


@pytest.fixture
def relay(settings: Settings) -> Iterator[Relay]:
    url = sa.make_url(settings.db_url)
    folder = url.query.get("host")
    relay = Relay(f"{folder}/.s.PGSQL.{url.port or 5432}" if folder else (url.host or "localhost", url.port or 5432))
    yield relay
    relay.close()


@pytest.mark.parametrize("settings_env", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_readers_of_records_get_503_while_the_database_is_away(settings: Settings, db: Database, relay: Relay) -> None:
    syncs.register(db, [Sync(url=URL, name="items", model="Item", unique_key="id")])
    url = sa.make_url(settings.db_url).set(host="127.0.0.1", port=relay.port).difference_update_query(["host"])
    relayed = replace(settings, db_url=url.render_as_string(hide_password=False))
    opened = open_database(relayed, serving=True)
    try:
        with calling(relayed, opened) as http:
            assert http.get("/records?model=Item", headers=HEADERS).status_code == 200
            relay.is_down = True
            relay.cut()
            for path in ("/records?model=Item", "/v1/syncs", "/records?model=Item"):
                answer = http.get(path, headers=HEADERS)
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable"), path
            relay.is_down = False
            assert http.get("/records?model=Item", headers=HEADERS).status_code == 200
    finally:
        opened.close()
