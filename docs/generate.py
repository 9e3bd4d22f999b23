"""Write the parts of the docs that repeat what the code says: `python docs/generate.py`.

A generated part is between `<!-- generated: NAME -->` and `<!-- end -->`; a test fails while it is stale.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from outhaul.api.app import OPERATIONS
from outhaul.api.problems import PROBLEMS
from outhaul.cli import outhaul
from outhaul.cli.exits import EXITS
from outhaul.config import SETTINGS
from outhaul.schema import DAY, EXPORTS, TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outhaul.schema import Column, Export

DOCS = Path(__file__).parent
_PART = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MIB = 1024 * 1024


def settings() -> str:
    """Every setting: its variable, its default, what it means."""
    rows = []
    for setting in SETTINGS:
        default = setting.default
        shown = (
            f"{default // _MIB} MiB ({default})" if isinstance(default, int) and default >= _MIB else default
        )
        rows.append(
            (f"`OUTHAUL_{setting.name.upper()}`", f"`{shown}`" if shown != "" else "(empty)", setting.help)
        )
    return _table(("variable", "default", "meaning"), rows)


def exports() -> str:
    """Every export with its columns."""
    return "\n".join(
        f"### {export.kind}\n\n{export.help}. {_period(export)} "
        f"Ordered by {_names(export.order)}.\n\n{_columns(export.columns)}"
        for export in EXPORTS.values()
    )


def tables() -> str:
    """Every stored table with its columns."""
    return "\n".join(
        f"### {table.name} table\n\n{table.help}. Files are sorted by {_names(table.order)}"
        f"{', one partition per `day`' if table.partitioned else ''}.\n\n"
        f"{_columns((*table.columns, DAY) if table.partitioned else table.columns)}"
        for table in TABLES.values()
    )


def commands() -> str:
    """Every command with its help, as `--help` shows it."""
    return "\n".join(
        f"## {path}\n\n```\n{command.get_help(context)}\n```\n" for path, command, context in _commands()
    )


def exits() -> str:
    """Every exit code of the command line."""
    rows = []
    for way in EXITS:
        kinds = [kind for error in way.errors for kind in (error, *error.__subclasses__())]
        rows.append((f"`{way.code}`", way.meaning, ", ".join(f"`{kind.code}`" for kind in kinds)))
    return _table(("exit code", "meaning", "errors"), rows)


def operations() -> str:
    """Every operation of the API, with the scope that it takes and what it answers."""
    rows = []
    for one in OPERATIONS:
        needs = {"nothing": "no token", "caller": "any token"}.get(one.needs, f"`{one.needs}`")
        body = f"`{one.body.__name__}`" if one.body else ""
        answer = (
            f"`{one.answer.__name__}`" if one.answer else "" if one.method == "HEAD" else f"`{one.media}`"
        )
        path = one.path.replace(":path}", "}")
        rows.append((f"`{one.method} {path}`", one.summary, needs, body, f"{one.status} {answer}".strip()))
    return _table(("operation", "what it does", "takes", "body", "answer"), rows)


def problems() -> str:
    """Every code of the API with its status."""
    rows = [(str(known.status), f"`{code}`", known.title) for code, known in PROBLEMS.items()]
    return _table(("status", "code", "title"), rows)


PARTS = {
    "settings": settings,
    "exports": exports,
    "tables": tables,
    "commands": commands,
    "exits": exits,
    "operations": operations,
    "problems": problems,
}


def generated(text: str) -> str:
    """A page with its generated parts as the code has them now."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n{part[3]}", text)


def _commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    root = click.Context(outhaul, info_name="outhaul", terminal_width=100, help_option_names=["-h", "--help"])
    yield from _below(root, outhaul)


def _below(
    context: click.Context, command: click.Command
) -> Iterator[tuple[str, click.Command, click.Context]]:
    if not isinstance(command, click.Group):
        yield context.command_path, command, context
        return
    for name, child in sorted(command.commands.items()):
        inner = click.Context(
            child, parent=context, info_name=name, terminal_width=100, max_content_width=100
        )
        yield from _below(inner, child)


def _columns(columns: tuple[Column, ...]) -> str:
    rows = [(f"`{c.name}`", c.type, "always" if c.required else "may be empty", c.help) for c in columns]
    return _table(("column", "type", "present", "meaning"), rows)


def _period(export: Export) -> str:
    if export.personal:
        return "Takes a period, or none."
    return "Takes a period." if export.dated else "The state now."


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Bring every page up to date."""
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text()
        current = generated(text)
        if current != text:
            page.write_text(current)
            click.echo(f"generated {page.relative_to(DOCS)}")


if __name__ == "__main__":
    main()
