"""The queue: which schedules are due, which run executes them, and what happens when that run dies.

A *worker* is one run that works on one sync. It *claims* schedules (a sync for one connection and variant) and
executes them. Its one heartbeat row is its lease on all its claims. All times are the database's clock.

How two runs never write the same dataset, though a process may stop anywhere and wake up much later:

- A claim sets `worker_id` and raises `fence`. Only a row that nobody holds can be claimed.
- Every transaction that writes for an execution begins with `lock_dataset`, then `check`. If the row is not ours any
  more, `check` raises LeaseLost and nothing is written.
- `worker_id` is taken from a worker only by itself (`release`) or by the reaper (`reap`, `end_worker`), and both hold
  the dataset's lock when they do. So what `check` found stays true until its transaction ends, without a lock on the
  row: pause, trigger and cancel update the row at once, however long a batch takes.
- Lock and check are two statements, because a statement sees what was committed before it began: one that waited for
  the lock would go on to read the row as it was before the wait.
- The reaper only *tries* the lock and passes over rows whose lock is held. So it never waits for a batch, and nobody
  waits for two of these locks in different orders. A process that was stopped inside a transaction does not hold the
  lock for ever: the server ends a transaction in which nothing happens for STUCK_SECONDS, and the reaper a COPY
  whose rows do not come.
- SQLite has one write lock, and a write transaction holds it from its start: that is the dataset's lock there.

What becomes of a request (trigger, reset, empty cache): it stays on the row until the execution that answers it is
released, so that it is not lost with a run that dies. A reset asked for while the sync is being executed cancels that
execution and is answered by the next; both are noted with one and the same time, which is how `release` knows.
"""

from .claims import begin_execution, check, claim, count_due, is_cancelled, lock_dataset, put_off, release
from .deletion import deleting
from .due import Hold, Slots, Timing, Waiting, waiting
from .model import (
    CANCEL_SECONDS,
    HEARTBEAT_SECONDS,
    LEASE_SECONDS,
    REAUTHORISE_AFTER,
    STUCK_SECONDS,
    Claim,
    Holder,
    Lost,
    Schedule,
    Shown,
    State,
    Worker,
)
from .requests import cancel, set_checkpoint, set_frequency, set_state, trigger
from .schedules import (
    count_states,
    held_by,
    holder,
    partitions,
    runs_at_work,
    schedules,
    show,
    state_of,
    versions,
)
from .workers import beat, drained, end_worker, forgive_silence, give_up, heartbeat, live_workers, reap, start_worker

__all__ = [
    "CANCEL_SECONDS",
    "HEARTBEAT_SECONDS",
    "LEASE_SECONDS",
    "REAUTHORISE_AFTER",
    "STUCK_SECONDS",
    "Claim",
    "Hold",
    "Holder",
    "Lost",
    "Schedule",
    "Shown",
    "Slots",
    "State",
    "Timing",
    "Waiting",
    "Worker",
    "beat",
    "begin_execution",
    "cancel",
    "check",
    "claim",
    "count_due",
    "count_states",
    "deleting",
    "drained",
    "end_worker",
    "forgive_silence",
    "give_up",
    "heartbeat",
    "held_by",
    "holder",
    "is_cancelled",
    "live_workers",
    "lock_dataset",
    "partitions",
    "put_off",
    "reap",
    "release",
    "runs_at_work",
    "schedules",
    "set_checkpoint",
    "set_frequency",
    "set_state",
    "show",
    "start_worker",
    "state_of",
    "trigger",
    "versions",
    "waiting",
]
