"""Device → journal: what every device knocks at.

For each request: read the body up to a limit, find out whose it is, look whether it can be read at all, then append
it to the journal, and only after that acknowledge it. What it says is read later, when it is landed.

Collect    the ASGI app
ENDPOINTS  what is served there
Apps       whose key is whose
serves     whether a path is one of theirs
"""

from outhaul.collect.app import ENDPOINTS, Collect, serves
from outhaul.collect.apps import Apps

__all__ = ["ENDPOINTS", "Apps", "Collect", "serves"]
