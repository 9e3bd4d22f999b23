"""Outhaul hauls the raw data of mobile apps out into storage of your own, and proves it is all there.

device ─collect▶ journal ─land▶ tables ─export▶ container
             └── ledger: who may send and ask, what was asked, how far it got ──┘
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outhaul.client import AsyncClient, Client, col

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__", "col"]


def __getattr__(name: str) -> Any:
    # The server and most commands do without the client, which takes a while to import.
    if name in {"AsyncClient", "Client", "col"}:
        return getattr(importlib.import_module("outhaul.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
