"""Maintenance: keeps the tables quick to read, removes whoever is to be forgotten, and what is kept no longer.

All of it happens between two landings, in small steps, so that nothing else writes the tables and no device waits.

Maintainer   takes the next step of whatever there is to do
"""

from outhaul.maintain.maintainer import Maintainer

__all__ = ["Maintainer"]
