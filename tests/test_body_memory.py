"""An answer of N bytes needs about 8 N bytes of memory at most, whatever is in it, or it is refused.

Each body is read in a process of its own, whose peak of resident memory is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

import pytest

pytestmark = pytest.mark.acceptance

SIZE: Final = 3_000_000
CONSTANT: Final = 40_000_000
"""The memory of 100,000 records, or of 300,000 values in one record."""

# Expressions that make a body of about `n` bytes.
BODIES: Final = {
    "numbers": "b'[' + b'0,' * (n // 2) + b'0]'",
    "empty objects": "b'[' + b'{},' * (n // 3) + b'{}]'",
    "empty lists": "b'[' + b'[],' * (n // 3) + b'[]]'",
    "short texts": "b'[' + b'\"ab\",' * (n // 5) + b'\"ab\"]'",
    "small records": "b'[' + b'{\"id\":1},' * (n // 9) + b'{\"id\":1}]'",
    "deep lists": "b'[' * (n // 2) + b']' * (n // 2)",
    "deep objects": "b'{\"a\":' * (n // 6) + b'1' + b'}' * (n // 6)",
    "open brackets": "b'[' * n",
    "many fields": "b'{' + b','.join(b'\"%d\":0' % i for i in range(n // 12)) + b'}'",
    "many fields beside the list": "b'{\"results\":[],' + b','.join(b'\"%d\":0' % i for i in range(n // 12)) + b'}'",
    "many fields on the way": "b'{\"results\":{' + b','.join(b'\"%d\":0' % i for i in range(n // 12)) + b'}}'",
    "a record of numbers": "b'[{\"id\":1,\"v\":[' + b'0.1,' * (n // 4) + b'0]}]'",
    "a record of objects": "b'[{\"id\":1,\"v\":[' + b'{},' * (n // 3) + b'0]}]'",
    "a record of one text": "b'[{\"id\":1,\"v\":\"' + b'x,' * (n // 2) + b'\"}]'",
    "commas in texts": "b'[' + b','.join(b'{\"v\":\"%s\"}' % (b',' * 5000) for i in range(n // 5000)) + b']'",
    "lines": "b'{\"id\":1}\\n' * (n // 9)",
    "empty lines": "b'\\n' * n",
    "rows": "b'a,b\\n' + b'1,2\\n' * (n // 4)",
    "utf-16": "('[' + '0,' * (n // 4) + '0]').encode('utf-16')",
}
FORMATS: Final = {"lines": "jsonl", "empty lines": "jsonl", "rows": "csv"}

CODE: Final = """
import json, os, resource, sys
from nango_dagster.bodies import json_text
from nango_dagster.errors import ApiError, RecordRejected
from nango_dagster.http import Response
from nango_dagster.records import decode, read

def outcome_of(response, format):
    try:
        page = read(json_text(response, format))
        for record in page.records:
            decode(record)
    except (ApiError, RecordRejected) as error:
        return str(error)
    return "read"

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

n, bodies, formats = json.loads(sys.stdin.read())
for name, source in bodies.items():
    response = Response(200, {"Content-Type": "application/json"}, eval(source), "")
    if os.fork() == 0:
        before = peak()
        outcome = outcome_of(response, formats.get(name))
        print(json.dumps([name, len(response.content), peak() - before, outcome]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[int, int, str]]:
    """For each body its size, the peak of the memory beside it, and what came of it."""
    given = json.dumps([SIZE, BODIES, FORMATS])
    run = subprocess.run([sys.executable, "-c", CODE], input=given, capture_output=True, text=True, check=True)
    return {name: (size, peak, outcome) for name, size, peak, outcome in map(json.loads, run.stdout.splitlines())}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_needs_memory_in_proportion_to_its_size(
    results: dict[str, tuple[int, int, str]], name: str
) -> None:
    size, peak, outcome = results[name]
    # The body itself is one of the eight.
    assert size + peak <= 8 * size + CONSTANT, outcome


@pytest.mark.parametrize("name", ["a record of one text", "commas in texts"])
def test_ordinary_records_and_long_texts_are_not_refused(results: dict[str, tuple[int, int, str]], name: str) -> None:
    assert results[name][2] == "read"
