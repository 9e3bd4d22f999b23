"""Every table and every column, once: what is stored, and what an export shows.

Stored tables are append-only. The first column of a table's `order` is what its files are sorted by and what
an export is sliced by; tables with a `day` are partitioned by the UTC day of that column. Three tables hold
contributions rather than rows, which reading folds: `session` (sum of counts, latest end), `device` (latest
value of each field) and `tag`, `token` (latest value wins). `activity_end` and `job_end` close rows that were
stored before their end was known.
"""

from outhaul.schema.columns import AREA, DAY, INFO, Column, Export, Kind, RecordKind, Table, Type
from outhaul.schema.exports import EXPORT_TYPES, EXPORTS
from outhaul.schema.tables import TABLES

__all__ = [
    "AREA",
    "DAY",
    "EXPORTS",
    "EXPORT_TYPES",
    "INFO",
    "TABLES",
    "Column",
    "Export",
    "Kind",
    "RecordKind",
    "Table",
    "Type",
]
