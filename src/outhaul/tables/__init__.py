"""Where landed records rest: one Delta Lake table per app and kind, and devices as these tables have them.

Tables     files and versions of all tables
Devices    devices and users, found by their ids without a scan
"""

from outhaul.tables.delta import NewFile, Removed, StoredFile, Tables, bounds, parquet, width
from outhaul.tables.devices import Device, Devices, Tag, Token

__all__ = [
    "Device",
    "Devices",
    "NewFile",
    "Removed",
    "StoredFile",
    "Tables",
    "Tag",
    "Token",
    "bounds",
    "parquet",
    "width",
]
