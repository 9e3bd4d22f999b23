"""`outhaul serve`: the server itself."""

from __future__ import annotations

from pathlib import Path

import click

from outhaul import config
from outhaul.cli.folder import server_room
from outhaul.cli.options import Command, data_option

_PEM = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=Command)
@data_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on."
)
@click.option("--tls-cert", type=_PEM, help="Certificate chain, PEM.")
@click.option("--tls-key", type=_PEM, help="Its private key, PEM.")
def serve(data: Path, host: str, port: int, tls_cert: Path | None, tls_key: Path | None) -> int:
    """Run the server until it is told to stop (Ctrl-C or SIGTERM).

    Settings are environment variables: docs/settings.md lists them.

    Example:
      outhaul serve --data ./data --host 0.0.0.0 --port 8443 --tls-cert cert.pem --tls-key key.pem
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together.")
    settings = config.from_environment()
    return int(server_room("server").serve(data, host, port, tls_cert, tls_key, settings))
