"""A sink that another thread can close: from then on no call of the script gets through."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

from ..checkpoint import Checkpoint
from ..sources import Numbers, Sink


class FencedSink:
    """Hands the calls of a script to a sink, one at a time, until it is closed."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def __enter__(self) -> Sink:
        self._lock.acquire()
        if self._error is not None:
            self._lock.release()
            raise self._error
        return self._sink

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def close(self, error: BaseException) -> None:
        """Let every later call raise this error; waits until a call that is under way has returned."""
        with self._lock:
            self._error = error

    def try_to_close(self, error: BaseException) -> bool:
        """Close it unless a call is under way; whether that was done."""
        with self.between_calls() as is_free:
            if is_free:
                self._error = error
            return is_free

    @contextlib.contextmanager
    def between_calls(self) -> Iterator[bool]:
        """Keep calls out while the block runs; False where one is under way."""
        is_free = self._lock.acquire(blocking=False)
        try:
            yield is_free
        finally:
            if is_free:
                self._lock.release()

    def save(self, records: Sequence[bytes], model: str | None = None, where: str | None = None) -> None:
        """See Sink.save."""
        with self as sink:
            sink.save(records, model, where)

    def update(self, records: Sequence[bytes], model: str | None = None) -> int:
        """See Sink.update."""
        with self as sink:
            return sink.update(records, model)

    def delete(self, keys: Sequence[str], model: str | None = None) -> int:
        """See Sink.delete."""
        with self as sink:
            return sink.delete(keys, model)

    def reject(self, where: str, reason: str, model: str | None = None) -> None:
        """See Sink.reject."""
        with self as sink:
            sink.reject(where, reason, model)

    def commit(self) -> None:
        """See Sink.commit."""
        with self as sink:
            sink.commit()

    def save_checkpoint(self, checkpoint: Checkpoint | None) -> None:
        """See Sink.save_checkpoint."""
        with self as sink:
            sink.save_checkpoint(checkpoint)

    def open_window(self, model: str | None = None) -> bool:
        """See Sink.open_window."""
        with self as sink:
            return sink.open_window(model)

    def close_window(self, model: str | None = None) -> list[str]:
        """See Sink.close_window."""
        with self as sink:
            return sink.close_window(model)

    def drop_window(self, model: str | None = None) -> None:
        """See Sink.drop_window."""
        with self as sink:
            sink.drop_window(model)

    def rejections(self) -> int:
        """See Sink.rejections."""
        with self as sink:
            return sink.rejections()

    def check(self) -> None:
        """See Sink.check."""
        with self as sink:
            sink.check()

    def count(self, numbers: Numbers) -> None:
        """See Sink.count."""
        with self as sink:
            sink.count(numbers)
