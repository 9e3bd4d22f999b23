"""The salt that an app's Countly SDK makes checksums with."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("apps", sa.Column("countly_salt", sa.Text))
