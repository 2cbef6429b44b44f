"""Numbered steps from schema to schema, run by Alembic in order; each is kept for ever."""
