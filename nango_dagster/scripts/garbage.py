"""Python's garbage collection while a script runs."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_users = 0
_is_frozen_here = False


@contextlib.contextmanager
def older_objects_exempt() -> Iterator[None]:
    """Let garbage collections skip the objects that the process had before the block, such as those of its modules.

    A script makes many short-lived dictionaries, so the collector often looks at all objects of the process. Blocks may
    overlap: the first one that begins decides which objects are skipped, until the last one ends. Objects that the
    process itself has exempted before stay so.
    """
    global _users, _is_frozen_here
    with _lock:
        if not _users and not gc.get_freeze_count():
            gc.freeze()
            _is_frozen_here = True
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and _is_frozen_here:
                gc.unfreeze()
                _is_frozen_here = False
