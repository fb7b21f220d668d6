"""The page's receiver takes what is signed, once, and nothing else."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from nango_dagster import webhooks
from nango_dagster.runs.delivering import DeliveryPool
from nango_dagster.settings import Settings
from nango_dagster.store import Database, outbox
from tests.delivering import put
from tests.executions import until
from tests.test_docs import blocks

KEY = "a-long-random-text"


@contextmanager
def receiving(names: dict[str, Any]) -> Iterator[str]:
    """The page's receiver at a free port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), names["Receiver"]) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/hook"
        finally:
            server.shutdown()
            thread.join()


def test_the_page_s_receiver_takes_each_notification_once_and_nothing_unsigned(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = "how-to/webhooks.md"
    (block,) = (block for block in blocks("python") if page in str(block) and "class Receiver" in block.text)
    monkeypatch.setenv("NANGO_WEBHOOK_SIGNING_KEY", KEY)
    names: dict[str, Any] = {"__name__": "receiver"}
    exec(block.text, names)
    with receiving(names) as url:
        put(db, "acme")
        pool = DeliveryPool(db, replace(settings, webhook_url=url, webhook_signing_key=KEY))
        assert pool.deliver().arrived == 1 and outbox.depth(db) == {"pending": 0, "dead": 0}
        until(lambda: names["seen"] == {"d-acme"}, what="it works after it has answered")
        about = webhooks.About("github", "acme", "base", "issues", "Issue", "INITIAL")
        body = webhooks.changed(about, 1, 0, 0, None)
        for delivery_id in ("d-acme", "d-bolt"):
            assert _post(url, body, webhooks.headers(body, delivery_id, KEY)) == 204
        assert _post(url, body, webhooks.headers(body, "d-core", "another key")) == 401
        assert _post(url, body, webhooks.headers(body, "d-core", None)) == 401
    said: list[str] = []

    def printed() -> bool:
        said.append(capsys.readouterr().out)
        return "".join(said) == "Issue of acme has changed: read its records\n" * 2

    until(printed, what="two lines, one for each notification")
    assert names["seen"] == {"d-acme", "d-bolt"}


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
