"""Rejected records are stored once more, from the text that was kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from ..store import Connection, datasets, rejected, tables
from ..store.datasets import Dataset
from ..store.rejected import RejectedRecord
from ..store.upsert import Upsert
from .execution import Execution
from .functions import load_function


def retry(execution: Execution, dataset: Dataset, kept: Sequence[RejectedRecord]) -> int:
    """Store the rejected records of a dataset that have a text; how many of them are stored now.

    Each is stored as it came, unless the list has brought a newer record with its key since. No job is made: the time
    of the last success, which a sync may ask its API for news with, stays as it is.
    """
    plan = execution.plan()
    database = plan.database
    transform = load_function(plan.sync.transform) if plan.sync.transform else None
    table = tables.open_table(database, plan.row.id, plan.sync, transform)
    records = [record for record in kept if record.text is not None]

    def finish(connection: Connection) -> None:
        plan.lease.check(connection)
        writer.finish(connection)
        now = database.now(connection)
        again = {rejection.text: rejection for rejection in writer.tally.rejections}
        for record in records:
            rejected.renew(connection, record, again.get(record.text), now)

    with database.ask() as connection:
        current = datasets.read(connection, dataset.id)
    with closing(Upsert(database, plan.sync, current, table, plan.lease.check)) as writer:
        writer.add([record.text for record in records if record.text is not None])
        writer.settle(complete=False)
        database.transact(finish)
    return len(records) - writer.tally.rejected
