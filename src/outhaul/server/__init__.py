"""The only composition: what runs where, and what it is handed.

    supervisor ─┬─ front: collects from devices and answers clients; writes the journal and the ledger
                └─ worker: lands the journal and carries out exports

Two processes, so that neither a huge export nor a burst of landing makes devices wait.
"""

from outhaul.server.supervisor import serve

__all__ = ["serve"]
