"""The command line. Works on the base install; a command that needs the server's packages says so."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import click
import msgspec

from outhaul import __version__, config
from outhaul.client import Collector
from outhaul.errors import Invalid, NotFound, OuthaulError
from outhaul.records import REASONS
from outhaul.wire import ENDED, Platform, Role, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

_POLL_S = 0.3
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    envvar="OUTHAUL_DATA",
    show_envvar=True,
    help="The folder in which the server keeps everything.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of text; errors too, on stderr."
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit: 0 when it did what it was asked, 1 on an error, 2 when called wrongly."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = outhaul.main(words, prog_name="outhaul", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "outhaul"
        _fail("usage", error.format_message(), f"{command} --help", words, exit_code=2)
    except click.exceptions.Abort:
        sys.exit(130)
    except OuthaulError as error:
        _fail(error.code, error.message, error.hint, words)
    except BrokenPipeError:
        # Whoever reads our output has seen enough, as `| head` does; Python would complain once more at exit.
        sys.stdout = None
        sys.exit(0)
    except (OSError, click.ClickException) as error:
        _fail("system", str(error), "Check that the path exists and may be read and written.", words)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(code: str, message: str, hint: str, words: list[str], exit_code: int = 1) -> NoReturn:
    if "--json" in words:
        error = {"error": {"code": code, "message": message, "hint": hint}}
        click.echo(msgspec.json.encode(error), err=True)
    else:
        click.echo(f"Error: {message}", err=True)
        if hint:
            click.echo(f"Try: {hint}", err=True)
    sys.exit(exit_code)


def server_room(name: str) -> ModuleType:
    """A module of the server, imported when a command needs it: the base install lacks its packages.

    Raises:
        Invalid: the packages are not installed, with the command that installs them.
    """
    try:
        return importlib.import_module(f"outhaul.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "outhaul":
            raise
        raise Invalid(
            f"This command needs `pip install 'outhaul[server]'`: {error.name!r} is not installed.",
            hint="pip install 'outhaul[server]'",
            code="server_missing",
        ) from None


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="outhaul")
def outhaul() -> None:
    """Haul the raw data of mobile apps out into storage of your own, with proof that it is complete.

    \b
    Example:
      outhaul serve --data ./data
      outhaul apps create shop --platform android --data ./data
    """


@outhaul.command()
@data_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on."
)
@click.option(
    "--tls-cert", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Certificate chain, PEM."
)
@click.option(
    "--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its private key, PEM."
)
def serve(data: Path, host: str, port: int, tls_cert: Path | None, tls_key: Path | None) -> int:
    """Run the server until it is told to stop (Ctrl-C or SIGTERM).

    Settings are environment variables: docs/settings.md lists them.

    \b
    Example:
      outhaul serve --data ./data --host 0.0.0.0 --port 8443 --tls-cert cert.pem --tls-key key.pem
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together.")
    settings = config.from_environment()
    return int(server_room("server").serve(data, host, port, tls_cert, tls_key, settings))


@outhaul.group()
def apps() -> None:
    """Apps whose devices may send.

    \b
    Example:
      outhaul apps create shop --platform ios --data ./data
    """


@apps.command("create")
@click.argument("name")
@click.option("--platform", type=click.Choice(get_args(Platform)), default="android", show_default=True)
@data_option
@json_option
def create_app(name: str, platform: Platform, data: Path, as_json: bool) -> None:
    """Register an app and print its SDK key, and the names that clients of the old API address it by.

    \b
    Example:
      outhaul apps create shop --platform android --data ./data --json
    """
    with _ledger(data, create=True) as ledger:
        app = ledger.create_app(name, platform, _now())
        _show(_described(ledger, app), as_json)


@apps.command("list")
@data_option
@json_option
def list_apps(data: Path, as_json: bool) -> None:
    """Show every app with its SDK key.

    \b
    Example:
      outhaul apps list --data ./data
    """
    with _ledger(data) as ledger:
        found = [_described(ledger, app) for app in ledger.apps()]
    _show_rows("apps", found, ("appId", "name", "platform", "appCollection", "appName", "sdkKey"), as_json)


@outhaul.group()
def credentials() -> None:
    """Credentials of those who may ask for exports.

    \b
    Example:
      outhaul credentials create reports --role contributor --data ./data
    """


@credentials.command("create")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(get_args(Role)),
    default="owner",
    show_default=True,
    help="A reader may look; contributor and owner may also ask for exports.",
)
@data_option
@json_option
def create_credential(name: str, role: Role, data: Path, as_json: bool) -> None:
    """Make a credential and print its secret, which cannot be shown again.

    \b
    Example:
      outhaul credentials create reports --role contributor --data ./data --json
    """
    with _ledger(data, create=True) as ledger:
        credential, secret = ledger.create_credential(name, role, _now())
        installation = ledger.installation(_now())
    shown = {
        "subscriptionId": installation.subscription_id,
        "tenantId": installation.tenant_id,
        "clientId": credential.client_id,
        "clientSecret": secret,
        "name": credential.name,
        "role": credential.role,
    }
    _show(shown, as_json)


@credentials.command("list")
@data_option
@json_option
def list_credentials(data: Path, as_json: bool) -> None:
    """Show every credential, without its secret.

    \b
    Example:
      outhaul credentials list --data ./data
    """
    with _ledger(data) as ledger:
        found = [
            {
                "clientId": item.client_id,
                "name": item.name,
                "role": item.role,
                "createdAt": _time(item.created_at),
            }
            for item in ledger.credentials()
        ]
    _show_rows("credentials", found, ("clientId", "name", "role", "createdAt"), as_json)


@outhaul.group()
def export() -> None:
    """Exports asked for, and how far they got.

    \b
    Example:
      outhaul export list --data ./data
    """


@export.command("list")
@data_option
@json_option
def list_exports(data: Path, as_json: bool) -> None:
    """Show every export task, oldest first.

    \b
    Example:
      outhaul export list --data ./data --json
    """
    with _ledger(data) as ledger:
        tasks = [_progress(task) for task in ledger.tasks(order="created_at")]
    if as_json:
        return _show({"exports": tasks}, as_json=True)
    for task in tasks:
        click.echo(f"{task['id']}  {_line(task)}")
    return None


@export.command("watch")
@click.argument("task")
@data_option
@json_option
def watch_export(task: str, data: Path, as_json: bool) -> int:
    """Follow one export task until it ends: exit code 0 when it succeeded, 1 when it failed.

    \b
    Example:
      outhaul export watch 7f1e0c5e-6f0b-4f3e-9a53-6d2c1b0f8a11 --data ./data
    """
    with _ledger(data) as ledger:
        shown = _progress(ledger.task(task))
        last = ""
        while shown["state"] not in ENDED:
            if not as_json:
                last = _redraw(_line(shown), last)
            time.sleep(_POLL_S)
            shown = _progress(ledger.task(task))
    if as_json:
        _show(shown, as_json=True)
    else:
        _redraw(_line(shown), last)
        if sys.stderr.isatty():
            click.echo(err=True)
        for file in shown["files"]:
            click.echo(
                f"{file['name']}  {file['rows']} rows  {_size(file['bytes'])}  sha256 {file['sha256']}"
            )
    return 0 if shown["state"] == "succeeded" else 1


@outhaul.command()
@data_option
@click.option("--app", help="Only this app, by its appId.")
@click.option("--reason", type=click.Choice(REASONS), help="Only what was set aside for this reason.")
@click.option(
    "--limit", type=click.IntRange(0), default=10, show_default=True, help="How many records to show."
)
@json_option
def rejects(data: Path, app: str | None, reason: str | None, limit: int, as_json: bool) -> None:
    """Show what was set aside: counts by app and reason, and the newest records with what was sent.

    \b
    Example:
      outhaul rejects --data ./data --reason extras_too_long --limit 3
    """
    _check_exists(data)
    found = server_room("rejects").read(data, app, reason, limit)
    if as_json:
        return _show(msgspec.to_builtins(found), as_json=True)
    for count in found.counts:
        click.echo(f"{count.count:>9}  {count.app_id}  {count.reason}")
    for row in found.newest:
        click.echo(f"\n{row.received_at:%Y-%m-%dT%H:%M:%SZ}  {row.app_id}  {row.protocol}  {row.reason}")
        click.echo(f"  {row.detail}")
        click.echo(f"  {row.raw}")
    return None


@outhaul.command()
@click.argument("file", type=click.File("rb"))
@click.option("--url", required=True, help="Base URL of the server.")
@click.option(
    "--key-env",
    default="OUTHAUL_SDK_KEY",
    show_default=True,
    help="The environment variable with the app's SDK key; on the command line others could see it.",
)
@json_option
def collect(file: Any, url: str, key_env: str, as_json: bool) -> None:
    """Send records from FILE, one JSON object a line, or from standard input with `-`.

    Records without an `id` get one made from their line and its number: sending the same file again, after
    a failure, doubles nothing.

    \b
    Example:
      OUTHAUL_SDK_KEY=… outhaul collect records.ndjson --url http://127.0.0.1:8080
    """
    key = config.variable(key_env)
    if not key:
        raise Invalid(
            f"The environment variable {key_env} is not set.", hint=f"export {key_env}=<the app's sdkKey>"
        )
    with Collector(url, key) as collector:
        _show({"sent": collector.send(_records(file))}, as_json)


def _records(lines: Any) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(
                f"Line {number} is not a JSON object: {error}.",
                hint="Mend the line and send the whole file again: the lines before it are not doubled.",
            ) from None
        if record.get("id") is None:
            record["id"] = hashlib.md5(b"%d:%s" % (number, line.strip()), usedforsecurity=False).hexdigest()
        yield record


@contextlib.contextmanager
def _ledger(data: Path, *, create: bool = False) -> Iterator[Any]:
    if not create:
        _check_exists(data)
    ledger = server_room("ledger.ledger").Ledger(data)
    try:
        yield ledger
    finally:
        ledger.close()


def _check_exists(data: Path) -> None:
    # Opening a ledger makes one, which a mistyped folder must not do.
    if not (data / "ledger.db").is_file():
        raise NotFound(
            f"{data} is not a data folder of Outhaul.",
            hint=f"outhaul apps create <name> --data {data} makes one.",
        )


def _now() -> int:
    return time.time_ns() // 1_000_000


def _described(ledger: Any, app: Any) -> dict[str, Any]:
    installation = ledger.installation(_now())
    return {
        "subscriptionId": installation.subscription_id,
        "tenantId": installation.tenant_id,
        "resourceGroup": app.resource_group,
        "appCollection": app.app_collection,
        "appName": app.app_name,
        "appId": app.app_id,
        "sdkKey": app.sdk_key,
        "name": app.name,
        "platform": app.platform,
    }


def _progress(task: Task) -> dict[str, Any]:
    planned = task.rows_planned
    done = task.state == "succeeded"
    percent = 100 if done else min(99, 100 * task.rows_done // planned) if planned else 0
    return {
        "id": task.id,
        "appId": task.app_id,
        "kind": task.request.kind,
        "format": task.request.format,
        "state": task.state,
        "rowsDone": task.rows_done,
        "rowsPlanned": planned,
        "bytesDone": task.bytes_done,
        "percent": percent,
        "createdAt": _time(task.created_at),
        "completedAt": None if task.completed_at is None else _time(task.completed_at),
        "error": task.error,
        "files": msgspec.to_builtins(task.files or []),
    }


def _line(task: dict[str, Any]) -> str:
    planned = "?" if task["rowsPlanned"] is None else task["rowsPlanned"]
    line = (
        f"{task['kind']} {task['format']}  {task['state']}  {task['percent']}%  "
        f"{task['rowsDone']}/{planned} rows  {_size(task['bytesDone'])}"
    )
    return f"{line}  {task['error']}" if task["error"] else line


def _redraw(line: str, last: str) -> str:
    """Show progress on stderr: a terminal's line is drawn over, elsewhere a changed line is added."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{line}", err=True, nl=False)
    elif line != last:
        click.echo(line, err=True)
    return line


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004  the step between the units
            return f"{size:.3g} {unit}" if unit != "B" else f"{count} B"
        size /= 1000
    return f"{size:.3g} TB"


def _time(millis: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(millis / 1000))


def _show(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(values))
        return
    for name, value in values.items():
        click.echo(f"{name:<16}{value}")


def _show_rows(name: str, rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        _show({name: rows}, as_json=True)
        return
    widths = {column: max([len(column), *(len(row[column]) for row in rows)]) for column in columns}
    for row in [{column: column for column in columns}, *rows]:
        click.echo("  ".join(row[column].ljust(widths[column]) for column in columns).rstrip())
