"""Alembic's entry: it runs on the connection, and in the transaction, that store.upgrade opened."""

from __future__ import annotations

from alembic import context

from nango_dagster.store.schema import metadata
from nango_dagster.store.upgrade import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
