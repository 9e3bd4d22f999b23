"""The ledger's tables, as SQLAlchemy Core sees them; `migrations/` builds the same."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()

installations = Table(
    "installations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("subscription_id", String(36), nullable=False),
    Column("tenant_id", String(36), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

apps = Table(
    "apps",
    metadata,
    Column("app_id", String(16), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("platform", String(16), nullable=False),
    Column("resource_group", String(90), nullable=False),
    Column("app_collection", String(64), nullable=False),
    Column("app_name", String(80), nullable=False),
    Column("sdk_key", String(64), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("name", "platform", name="uq_apps_name_platform"),
)

credentials = Table(
    "credentials",
    metadata,
    Column("client_id", String(36), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("secret_hash", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("app_id", String(16), nullable=False, index=True),
    Column("request", JSON, nullable=False),
    Column("destination", Text),
    Column("description", Text),
    Column("state", String(16), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("completed_at", BigInteger),
    Column("error", Text),
    Column("mark", BigInteger, nullable=False),
    Column("pin", JSON),
    Column("rows_planned", BigInteger),
    Column("rows_done", BigInteger, nullable=False, default=0),
    Column("bytes_done", BigInteger, nullable=False, default=0),
    Column("files", JSON),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("landed_at", BigInteger, nullable=False),
)
