"""Imports of tags, erasures of people, retention, and collections that are there without apps."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "app_collections",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("disabled_at", sa.BigInteger),
    )
    op.execute(
        "INSERT INTO app_collections (name, created_at) "
        "SELECT app_collection, min(created_at) FROM apps GROUP BY app_collection"
    )
    op.create_table(
        "retention",
        sa.Column("app_id", sa.String(16), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("days", sa.Integer, nullable=False),
    )
    _create_imports()
    _create_erasures()


def _create_imports() -> None:
    op.create_table(
        "imports",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("app_id", sa.String(16), nullable=False, index=True),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("source", sa.Text),
        sa.Column("source_shown", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String(160), nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("idempotency_hash", sa.String(64)),
        sa.Column("description", sa.Text),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("cancelling", sa.Boolean, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("failures", sa.JSON, nullable=False),
        sa.Column("version", sa.Text),
        sa.Column("bytes_total", sa.BigInteger),
        sa.Column("bytes_done", sa.BigInteger, nullable=False),
        sa.Column("lines_done", sa.BigInteger, nullable=False),
        sa.Column("lines_applied", sa.BigInteger, nullable=False),
        sa.Column("tags_set", sa.BigInteger, nullable=False),
        sa.Column("rejected", sa.JSON, nullable=False),
        sa.Column("problems", sa.JSON, nullable=False),
    )
    op.create_index("uq_imports_idempotency", "imports", ["created_by", "idempotency_key"], unique=True)
    op.create_index("ix_imports_created", "imports", ["created_at", "id"])


def _create_erasures() -> None:
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("app_id", sa.String(16), nullable=False, index=True),
        sa.Column("of", sa.String(16), nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("subject_digest", sa.String(64), nullable=False, index=True),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("mark", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String(160), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("found", sa.Text),
        sa.Column("receipt", sa.JSON, nullable=False),
    )
    op.create_index("ix_erasures_created", "erasures", ["created_at", "id"])
