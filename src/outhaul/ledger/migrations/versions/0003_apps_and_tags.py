"""Apps that are disabled, and types declared for tags."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("apps", sa.Column("disabled_at", sa.BigInteger))
    op.create_table(
        "tag_declarations",
        sa.Column("app_id", sa.String(16), primary_key=True),
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("declared_at", sa.BigInteger, nullable=False),
    )
