"""A FastAPI app of one route, which answers with bytes that it has in memory: what an answer costs at the least.

And of another one that asks the database before that, as one would by hand.
"""

from __future__ import annotations

import json
import queue
import socket
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import uvicorn
from fastapi import FastAPI, Response

POOL = 8  # connections, as many as the API keeps


def main(folder: Path, url: str) -> None:
    """Serve the files `0.json`, `1.json` and so on as `/0`, `/1`, and print where."""
    bodies = {int(file.stem): file.read_bytes() for file in folder.glob("*.json")}
    asked = json.loads((folder / "asked").read_text())
    connections: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(POOL):
        connections.put(connected(url))
    app = FastAPI()

    @app.get("/{number}")
    def answer(number: int) -> Response:
        return Response(bodies[number], media_type="application/json")

    @app.get("/asking/{number}")
    def answer_asking(number: int) -> Response:
        connection = connections.get()
        ask(connection, *asked[number])
        connections.put(connection)
        return Response(bodies[number], media_type="application/json")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([listening])


def connected(url: str) -> Any:
    """A connection of the driver itself."""
    if url.startswith("sqlite:///"):
        return sqlite3.connect(url.removeprefix("sqlite:///"), check_same_thread=False)
    return psycopg.connect(url, autocommit=True)


def ask(connection: Any, query: str, values: Sequence[str]) -> int:
    """The rows of a query, and how many they are."""
    return len(connection.execute(query, values).fetchall())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
