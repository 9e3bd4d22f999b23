"""The command line. Operators' commands work on a data folder, users' commands talk to a server.

Works on the base install; a command that needs the server's packages says so.
"""

from outhaul.cli.main import main, outhaul

__all__ = ["main", "outhaul"]
