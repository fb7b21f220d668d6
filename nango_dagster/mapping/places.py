"""The places in records that have held values, as a tree of limited size."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from ..paths import Step
from .names import Steps, path_text
from .plan import MAX_COLUMNS
from .values import Convert

MAX_PLACES = 4 * MAX_COLUMNS  # a field per record would fill the memory
MAX_DEPTH = 100
MAX_PATH_BYTES = 2000  # what an index of PostgreSQL holds


class Place:
    """A place in records, with the places inside it and the number of its column (`at`, -1 for none).

    The column of a place `as_json` has objects and lists as text, so that no place inside it gets one.
    """

    __slots__ = ("as_json", "at", "convert", "fractional", "inside", "skipped", "steps")

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.inside: dict[str | int, Place] = {}
        self.at = -1
        self.convert: Convert | None = None
        self.skipped = False
        self.as_json = False
        self.fractional = False  # it has held numbers that are no integers


class Places:
    """The tree of places."""

    def __init__(self) -> None:
        self.root = Place(())
        self.count = 0

    def at(self, steps: Steps) -> Place:
        """Return the place at these steps, and add it where it is missing."""
        here = self.root
        for depth, step in enumerate(steps):
            if step not in here.inside:
                here.inside[step] = Place(steps[: depth + 1])
                self.count += 1
            here = here.inside[step]
        return here

    def new(self, here: Place, step: Step) -> Place | None:
        """Add a place inside `here`; None where there are too many, or its path is too deep or too long."""
        steps = (*here.steps, step)
        if self.count >= MAX_PLACES or len(steps) > MAX_DEPTH or len(path_text(steps).encode()) > MAX_PATH_BYTES:
            return None
        return self.at(steps)

    def meant(self, steps: Steps) -> Iterator[Place]:
        """The places that the steps of a config may mean: a number is an index or a key."""
        return map(self.at, product(*map(_spellings, steps)))


def _spellings(step: Step) -> set[Step]:
    return {step, str(step), int(step)} if str(step).isdecimal() else {step}
