"""Outhaul hauls the raw data of mobile apps out into storage of your own, and proves it is all there.

device ─collect▶ journal ─land▶ tables ─export▶ container
             └── ledger: who may send and ask, what was asked, how far it got ──┘
"""

__version__ = "0.1.0"
