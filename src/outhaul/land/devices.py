"""Landing steps that say what is known about devices: references resolved, the latest facts remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outhaul.protocols.dialects import ADMIN

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_CONTEXT = (
    "applicationVersionName",
    "phoneModel",
    "firmwareName",
    "firmwareVersion",
    "serviceVersion",
    "locale",
    "networkType",
)
_REFERRING = {
    "activity": ("applicationVersionName",),
    "event": ("applicationVersionName",),
    "error": ("applicationVersionName",),
    "job": ("applicationVersionName",),
    "crash": ("applicationVersionName", "phoneModel", "firmwareName", "firmwareVersion", "serviceVersion"),
    "sessionStart": ("applicationVersionName", "locale", "networkType"),
    "session": ("applicationVersionName", "locale", "networkType"),
}

_REMEMBER_REFERENCES = f"""
INSERT INTO known_info
SELECT app, deviceId, infoId, max(receivedAt), {", ".join(f"last({c} ORDER BY seq)" for c in _CONTEXT)}
FROM in_device d
WHERE infoId IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM known_info k WHERE k.app = d.app AND k.deviceId = d.deviceId AND k.infoId = d.infoId)
GROUP BY app, deviceId, infoId;
INSERT INTO known_place
SELECT app, deviceId, locationId, max(receivedAt), last(countrycode ORDER BY seq)
FROM in_location l
WHERE locationId IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM known_place k WHERE k.app = l.app AND k.deviceId = l.deviceId AND k.locationId = l.locationId)
GROUP BY app, deviceId, locationId;
UPDATE in_sessionStart SET countrycode = coalesce(in_sessionStart.countrycode, k.countrycode) FROM known_place k
WHERE k.app = in_sessionStart.app AND k.deviceId = in_sessionStart.deviceId AND k.locationId = in_sessionStart.locationId;
"""

# A fact from an earlier batch stands until a later one is received: arrival decides, since device clocks differ.
_REMEMBER_DEVICES = f"""
CREATE OR REPLACE TEMP TABLE learned AS
SELECT app, deviceId, last(userId ORDER BY seq) FILTER (WHERE userId IS NOT NULL OR tagged) AS userId,
    bool_or(tagged) AS tagged, {", ".join(f"last({c} ORDER BY seq) FILTER (WHERE {c} IS NOT NULL) AS {c}" for c in _CONTEXT)},
    last(countrycode ORDER BY seq) FILTER (WHERE countrycode IS NOT NULL) AS countrycode
FROM (
    SELECT app, deviceId, seq, NULL AS userId, false AS tagged, {", ".join(_CONTEXT)}, NULL AS countrycode FROM in_device
    UNION ALL BY NAME SELECT app, deviceId, seq, false AS tagged, countrycode FROM in_location
    UNION ALL BY NAME SELECT app, deviceId, seq, value AS userId, true AS tagged FROM in_tag WHERE key = 'userid'
)
GROUP BY app, deviceId;
CREATE OR REPLACE TEMP TABLE relearned AS
SELECT l.app, l.deviceId, CASE WHEN l.tagged THEN l.userId ELSE k.userId END AS userId,
    {", ".join(f"coalesce(l.{c}, k.{c}) AS {c}" for c in (*_CONTEXT, "countrycode"))}
FROM learned l LEFT JOIN known_device k USING (app, deviceId);
DELETE FROM known_device USING relearned r WHERE known_device.app = r.app AND known_device.deviceId = r.deviceId;
INSERT INTO known_device BY NAME SELECT * FROM relearned;
"""

# Only the devices of this batch, once each, with when they were seen.
_SEEN = """
CREATE OR REPLACE TEMP TABLE present AS
SELECT app, deviceId, min(ts) AS firstSeen, max(ts) AS lastSeen, max(seq) AS seq FROM ({sightings}) GROUP BY app, deviceId;
CREATE OR REPLACE TEMP TABLE facts AS
SELECT k.* FROM known_device k SEMI JOIN present p ON k.app = p.app AND k.deviceId = p.deviceId;
"""
_SPANS = {"activity", "job", "session"}


def resolve_references(db: DuckDBPyConnection) -> None:
    """Give records what their `infoId` and `locationId` refer to, sent in this batch or in an earlier one."""
    db.execute(_REMEMBER_REFERENCES)
    for kind, fields in _REFERRING.items():
        if db.execute(f"SELECT 1 FROM in_{kind} WHERE infoId IS NOT NULL LIMIT 1").fetchone():
            values = ", ".join(f"{field} = coalesce(in_{kind}.{field}, k.{field})" for field in fields)
            db.execute(
                f"UPDATE in_{kind} SET {values} FROM known_info k "
                f"WHERE k.app = in_{kind}.app AND k.deviceId = in_{kind}.deviceId AND k.infoId = in_{kind}.infoId"
            )


def remember_devices(db: DuckDBPyConnection, kinds: list[str]) -> None:
    """Update the latest facts of devices; make `present` (devices in this batch) and `facts` (what is known of them)."""
    db.execute(_REMEMBER_DEVICES)
    sightings = " UNION ALL ".join(
        f"SELECT app, deviceId, {time} AS ts, seq FROM in_{kind} WHERE {time} IS NOT NULL AND protocol <> '{ADMIN}'"
        for kind in kinds
        for time in (("startTime", "endTime") if kind in _SPANS else ("timestamp",))
    )
    db.execute(_SEEN.format(sightings=sightings))
