"""The ledger's tables, as SQLAlchemy Core sees them; `migrations/` builds the same."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

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
    Column("disabled_at", BigInteger),
    Column("countly_salt", Text),
    UniqueConstraint("name", "platform", name="uq_apps_name_platform"),
)

app_collections = Table(
    "app_collections",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

retention = Table(
    "retention",
    metadata,
    Column("app_id", String(16), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("days", Integer, nullable=False),
)

tag_declarations = Table(
    "tag_declarations",
    metadata,
    Column("app_id", String(16), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("type", String(16), nullable=False),
    Column("declared_at", BigInteger, nullable=False),
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
    Column("destination_shown", Text, nullable=False, default=""),
    Column("created_by", String(160), nullable=False, default=""),
    Column("idempotency_key", String(255)),
    Column("idempotency_hash", String(64)),
    Column("started_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("attempt", Integer, nullable=False, default=1),
    Column("cancelling", Boolean, nullable=False, default=False),
    Column("phase", String(16), nullable=False, default="waiting"),
    Column("failures", JSON, nullable=False, default=list),
    Column("bytes_delivered", BigInteger, nullable=False, default=0),
    Column("parts_done", Integer, nullable=False, default=0),
    Column("parts_delivered", Integer, nullable=False, default=0),
    Index("uq_tasks_idempotency", "created_by", "idempotency_key", unique=True),
    Index("ix_tasks_created", "created_at", "id"),
)

imports = Table(
    "imports",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("app_id", String(16), nullable=False, index=True),
    Column("format", String(16), nullable=False),
    Column("source", Text),
    Column("source_shown", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("mark", BigInteger, nullable=False),
    Column("created_by", String(160), nullable=False),
    Column("idempotency_key", String(255)),
    Column("idempotency_hash", String(64)),
    Column("description", Text),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("attempt", Integer, nullable=False),
    Column("cancelling", Boolean, nullable=False),
    Column("error", Text),
    Column("failures", JSON, nullable=False),
    Column("version", Text),
    Column("bytes_total", BigInteger),
    Column("bytes_done", BigInteger, nullable=False),
    Column("lines_done", BigInteger, nullable=False),
    Column("lines_applied", BigInteger, nullable=False),
    Column("tags_set", BigInteger, nullable=False),
    Column("rejected", JSON, nullable=False),
    Column("problems", JSON, nullable=False),
    Index("uq_imports_idempotency", "created_by", "idempotency_key", unique=True),
    Index("ix_imports_created", "created_at", "id"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("app_id", String(16), nullable=False, index=True),
    Column("of", String(16), nullable=False),
    Column("subject", Text),
    Column("subject_digest", String(64), nullable=False, index=True),
    Column("state", String(16), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("mark", BigInteger, nullable=False),
    Column("created_by", String(160), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("error", Text),
    Column("found", Text),
    Column("receipt", JSON, nullable=False),
    Index("ix_erasures_created", "created_at", "id"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token_id", String(36), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("app_id", String(16)),
    Column("scopes", JSON, nullable=False),
    Column("secret_hash", String(64), nullable=False, unique=True),
    Column("previous_hash", String(64), index=True),
    Column("previous_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(160), nullable=False),
    Column("expires_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False, index=True),
    Column("actor", String(160), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(255), nullable=False),
    Column("app_id", String(16)),
    Column("request_id", String(64)),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("landed_at", BigInteger, nullable=False),
)
