"""Partition keys: every connection and variant has one, and no two share it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from nango_dagster.partition_keys import key_of, names_of

NAMES = st.text(min_size=1, max_size=30).filter(lambda text: text.encode(errors="ignore").decode() == text)


@given(NAMES, NAMES)
def test_a_key_says_its_connection_and_variant(connection_id: str, variant: str) -> None:
    assert names_of(key_of(connection_id, variant)) == (connection_id, variant)
    assert names_of(key_of(connection_id)) == (connection_id, "base")


@given(NAMES, NAMES)
def test_a_key_has_no_character_that_dagster_refuses_or_reads(connection_id: str, variant: str) -> None:
    key = key_of(connection_id, variant)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", key)
    assert key.count("|") == (variant != "base")
