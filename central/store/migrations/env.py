"""What Alembic runs: the steps on the connection that `central.store.database` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from central.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
