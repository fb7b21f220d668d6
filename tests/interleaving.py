"""Two programs on one database, statement by statement, in every order with at most two changes from one to the other.

Each program has an engine of its own, as a process has, and stops before each statement that it sends, from whichever
of its threads: of a writer's threads one is at work at a time as long as it writes one page. A program that waits for a
lock is not waited for: on PostgreSQL the server says so, and on SQLite a program waits in BEGIN IMMEDIATE while the
other one has begun to write. Most races need no more than two changes (Musuvathi and Qadeer, "Iterative context
bounding for systematic testing of multithreaded programs", PLDI 2007).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import event

from nango_dagster.settings import Settings
from nango_dagster.store import Database, open_database
from tests import statements

Program = Callable[[Database], None]
SECONDS = 60
MOST_STEPS = 30
"""A program that polls goes on for ever; after so many statements it is the other one's turn."""


class Actor:
    """One program: `step` lets it send its next statement."""

    def __init__(self, db: Database, program: Program) -> None:
        self.error: BaseException | None = None
        self.steps = 0
        self.statement: str | None = None
        """The statement that it is about to send; None while it is at work."""
        self.connection: Any = None
        self._writing_connection: Any = None
        self.stands = threading.Event()
        """Set when it is about to send a statement, or about to end."""
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(db, program), daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_writing(self) -> bool:
        return self._writing_connection is not None

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()  # all its statements are sent: it waits for its other threads

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for `step`."""
        return self.statement is not None

    def stop_before(self, connection: Any, statement: str) -> None:
        """Called in the thread that sends the statement."""
        if statement == "ROLLBACK":  # which undoes nothing that others could have seen
            self._note_end(connection)
            return
        self.connection, self.statement = connection, statement
        self.stands.set()
        self._go.acquire()

    def step(self) -> None:
        self.stands.clear()
        statement, self.statement = self.statement or "", None
        if statement.startswith("BEGIN IMMEDIATE"):
            self._writing_connection = self.connection
        elif statement == "COMMIT":
            self._note_end(self.connection)
        self.steps += 1
        self._go.release()

    def _run(self, db: Database, program: Program) -> None:
        try:
            program(db)
        except BaseException as error:
            self.error = error
        finally:
            self.stands.set()

    def _note_end(self, connection: Any) -> None:
        if connection is self._writing_connection:
            self._writing_connection = None


class Stage:
    """Two engines on one database, and a connection that watches who waits for a lock."""

    def __init__(self, databases: Sequence[Database], watch: psycopg.Connection[Any] | None) -> None:
        self.databases = databases
        self._watch = watch
        self._actors: Sequence[Actor] = ()
        for number, database in enumerate(databases):
            event.listen(
                database.engine.sqlalchemy,
                "do_connect",
                partial(statements.connect, before=partial(self._before, number)),
            )

    def _before(self, number: int, connection: Any, statement: str) -> None:
        if self._actors:
            self._actors[number].stop_before(connection, statement)

    def orders(
        self,
        programs: Callable[[], Sequence[Program]],
        then: Callable[[], None],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> int:
        """Play fresh `programs` in each order, and call `then` after each; the number of orders.

        `meanwhile` is called when both programs stand still in the middle of an order.

        One is stopped after each number of statements. Meanwhile the other goes on to one of its COMMITs, where it
        holds most locks, or to its end. Then the first ends, then the other.
        """
        count = 0
        for first in (0, 1):
            for i in itertools.count():
                for commits in itertools.count():
                    fresh = programs()
                    actors = self._actors = [Actor(*pair) for pair in zip(self.databases, fresh, strict=True)]
                    for actor in actors:
                        actor.start()
                    one, other = actors[first], actors[1 - first]
                    self._advance(actors, one, i)
                    first_has_ended = one.has_ended
                    stands_before_commit = self._advance_to_commit(actors, other, commits)
                    meanwhile()
                    self._finish(actors, [one, other])
                    self._actors = ()  # others may use the two databases until the next order
                    count += 1
                    then()
                    if first_has_ended or not stands_before_commit:
                        break
                if first_has_ended:
                    break
        return count

    def _advance_to_commit(self, actors: Sequence[Actor], actor: Actor, commits: int) -> bool:
        """Stop it before its next COMMIT after so many; False where it has ended before, or waits for a lock."""
        while self._settle(actor):
            if actor.statement == "COMMIT":
                if commits == 0:
                    return True
                commits -= 1
            if actor.steps >= MOST_STEPS or not self._advance(actors, actor, 1):
                return False
        return False

    def _advance(self, actors: Sequence[Actor], actor: Actor, steps: int) -> bool:
        """Let it send so many statements; False where it has ended before, or waits for a lock."""
        for _ in range(steps):
            if not self._settle(actor) or not self._may_go_on(actors, actor):
                return False
            actor.step()
        return self._settle(actor)

    def _finish(self, actors: Sequence[Actor], order: Sequence[Actor]) -> None:
        deadline = time.monotonic() + SECONDS
        while not all(actor.has_ended for actor in actors):
            assert time.monotonic() < deadline, f"no program goes on: {[actor.statement for actor in actors]}"
            for actor in order:
                self._advance(actors, actor, MOST_STEPS)
                while actor.is_writing and self._advance(actors, actor, 1):
                    pass
        for actor in actors:
            if actor.error is not None:
                raise actor.error

    def _settle(self, actor: Actor) -> bool:
        """Wait until it is about to send a statement; False where it has ended, or waits for a lock."""
        deadline = time.monotonic() + SECONDS
        while not actor.is_waiting:
            if actor.has_ended or self._waits_for_a_lock(actor):
                return False
            assert time.monotonic() < deadline, "a program neither ends nor sends a statement"
            actor.stands.wait(0.003)
        return True

    def _may_go_on(self, actors: Sequence[Actor], actor: Actor) -> bool:
        begins = (actor.statement or "").startswith("BEGIN IMMEDIATE")
        return not (begins and any(other.is_writing for other in actors if other is not actor))

    def _waits_for_a_lock(self, actor: Actor) -> bool:
        if self._watch is None or actor.connection is None:
            return False
        query = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
        row = self._watch.execute(query, (actor.connection.info.backend_pid,)).fetchone()
        return row is not None and row[0] is True


@contextlib.contextmanager
def stage(settings: Settings, db: Database) -> Iterator[Stage]:
    """A stage on the database of the settings, which `db` has open."""
    with contextlib.ExitStack() as stack:
        databases = [open_database(settings) for _ in range(2)]
        for database in databases:
            stack.callback(database.close)
            database.close()  # the pool's connections were made without the listener
        watch = None
        if db.engine.name == "postgresql":
            url = sa.make_url(str(settings.db_url)).set(drivername="postgresql")
            watch = stack.enter_context(psycopg.connect(url.render_as_string(hide_password=False), autocommit=True))
        yield Stage(databases, watch)
