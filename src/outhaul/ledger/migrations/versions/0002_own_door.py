"""What the own door needs: attempts and progress of tasks, idempotent requests, API tokens, the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    for column in (
        sa.Column("destination_shown", sa.Text, nullable=False, server_default=""),
        sa.Column("created_by", sa.String(160), nullable=False, server_default=""),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("idempotency_hash", sa.String(64)),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
        sa.Column("cancelling", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("phase", sa.String(16), nullable=False, server_default="waiting"),
        sa.Column("failures", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("bytes_delivered", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("parts_done", sa.Integer, nullable=False, server_default="0"),
        sa.Column("parts_delivered", sa.Integer, nullable=False, server_default="0"),
    ):
        op.add_column("tasks", column)
    op.create_index("uq_tasks_idempotency", "tasks", ["created_by", "idempotency_key"], unique=True)
    op.create_index("ix_tasks_created", "tasks", ["created_at", "id"])
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("app_id", sa.String(16)),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("previous_hash", sa.String(64), index=True),
        sa.Column("previous_until", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String(160), nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("last_used_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False, index=True),
        sa.Column("actor", sa.String(160), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(255), nullable=False),
        sa.Column("app_id", sa.String(16)),
        sa.Column("request_id", sa.String(64)),
    )
