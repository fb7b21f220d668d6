"""Start, pause, trigger and cancel syncs, and change their frequency."""

from __future__ import annotations

from ..config import every, interval_of
from ..errors import Refused
from ..sentences import number_of
from ..store import queue, status
from ..store.queue import CANCEL_SECONDS
from .report import SOON, Report
from .selection import Selection, check_may_run


def trigger(selection: Selection, *, reset: bool = False, empty_cache: bool = False) -> Report:
    """Request an execution now, also of paused syncs.

    A running execution is left alone, except by `reset`, which cancels it and begins again at the first record;
    `empty_cache` deletes the records before that. Raises Refused for `empty_cache` without `reset`, and for a sync
    that the dispatcher does not execute.
    """
    check_may_run(selection.row)
    if empty_cache and not reset:
        raise Refused("the cache is emptied with a reset only; ask for both. Nothing was done.")
    running = selection.running
    count = selection.apply(queue.trigger, reset=reset, empty_cache=empty_cache)
    document = selection.document(triggered=count, reset=reset, empty_cache=empty_cache)
    if count == 0:
        return Report(f"{selection} is being executed right now; nothing was asked for.", "", document)
    start = " from the first record on" if reset else ""
    deletion = ", its records deleted before" if empty_cache else ""
    next_step = f"It begins {SOON}."
    if running:
        effect = "is cancelled first" if reset else "was left alone"
        next_step += f" What is being executed right now ({running:,}) {effect}."
    return Report(f"Triggered {selection}{start}{deletion}.", next_step, document)


def start(selection: Selection) -> Report:
    """Let syncs run at their times; paused ones are due at once.

    Raises Refused for a sync that the dispatcher does not execute.
    """
    check_may_run(selection.row)
    paused = sum(state.started == "PAUSED" for state in selection.statuses)
    count = selection.apply(queue.set_state, state="STARTED")
    next_step = f"What was paused ({paused:,}) begins {SOON}." if paused else "Nothing was paused."
    return Report(f"Started {selection}.", next_step, selection.document(started=count, were_paused=paused))


def pause(selection: Selection) -> Report:
    """Stop syncs from running at their times; a running execution goes on to its end."""
    running = selection.running
    count = selection.apply(queue.set_state, state="PAUSED")
    rest = f"What is being executed ({running:,}) goes on to its end. " if running else ""
    document = selection.document(paused=count, executing=running)
    return Report(f"Paused {selection}.", f"{rest}Nothing more begins until a start or a trigger.", document)


def cancel(selection: Selection) -> Report:
    """Cancel running executions, and drop requests that have not begun."""
    count = selection.apply(queue.cancel)
    document = selection.document(cancelled=count)
    if count == 0:
        return Report(f"Nothing of {selection} is being executed; what was asked for is dropped.", "", document)
    next_step = f"Within {CANCEL_SECONDS:g} seconds it ends at its next page; the pages before are kept."
    return Report(f"Cancelled {number_of(count, 'execution')} of {selection}.", next_step, document)


def set_frequency(selection: Selection, frequency: str | None) -> Report:
    """Set the own frequency of a connection's sync; None removes it.

    Raises ConfigError for text that is no frequency, and Refused where the selection has no connection, or for a sync
    that the dispatcher does not execute.
    """
    check_may_run(selection.row)
    if selection.row.sync.partitioned and selection.connection_id is None:
        raise Refused(
            f"the frequency of all is that of the config of {selection.row.name}; name a connection for one of its own."
        )
    count = queue.set_frequency(selection.db, selection.row.id, selection.connection_id, selection.variant, frequency)
    states = status.read(selection.db, [selection.row], selection.connection_id, selection.variant)
    next_run_at = min((state.next_run_at for state in states if state.next_run_at), default=None)
    document = selection.document(
        changed=count, frequency=frequency, next_run_at=next_run_at and next_run_at.isoformat()
    )
    if any(state.is_due for state in states):
        next_step = f"It is due, and begins {SOON}."
    elif next_run_at is None:
        next_step = "It has no next run."
    else:
        next_step = f"Its next run is at {next_run_at:%Y-%m-%d %H:%M} UTC."
    if frequency is None:
        change = f"follows its sync again, {selection.row.sync.schedule_text}"
    else:
        change = f"has a frequency of its own, {every(interval_of(frequency))}"
    return Report(f"{selection} {change}.", next_step, document)
