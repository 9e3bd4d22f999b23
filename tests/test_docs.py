"""The docs say what the code does: nothing is missing, nothing is stale, no link leads nowhere."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest

from outhaul import errors, wire
from outhaul.cli import outhaul
from outhaul.config import SETTINGS
from outhaul.records import REASONS
from outhaul.schema import EXPORTS, TABLES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]

_spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


def read(name: str) -> str:
    return (DOCS / name).read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_parts_are_current(page):
    text = page.read_text()
    assert generate.generated(text) == text, "run `make format`"


def test_every_part_that_can_be_generated_is_in_a_page():
    text = "".join(page.read_text() for page in PAGES)
    assert all(f"<!-- generated: {name} -->" in text for name in generate.PARTS)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_settings(setting):
    row = next(
        line for line in read("settings.md").splitlines() if f"| `OUTHAUL_{setting.name.upper()}` |" in line
    )
    assert setting.help in row
    assert str(setting.default) in row


def test_variables_named_in_the_docs_exist():
    beside = ("DATA", "SDK_KEY", "CONFIG", "PROFILE", "URL", "TOKEN")
    known = {f"OUTHAUL_{name}" for name in (*(setting.name.upper() for setting in SETTINGS), *beside)}
    named = {name for page in PAGES for name in re.findall(r"\bOUTHAUL_[A-Z_]+\b", page.read_text())}
    assert named <= known


def test_columns():
    text = read("exports.md")
    for name, described, suffix in (
        *((export.kind, export, "") for export in EXPORTS.values()),
        *((table.name, table, " table") for table in TABLES.values()),
    ):
        section = re.split(r"^#", text.split(f"\n### {name}{suffix}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
        missing = [c.name for c in described.columns if f"| `{c.name}` | {c.type} |" not in section]
        assert not missing, f"{name}{suffix} lacks {missing}"


def test_manifest_members():
    text = read("exports.md")
    shapes = (wire.Manifest, wire.FileEntry, wire.ColumnEntry)
    members = {field.encode_name for shape in shapes for field in msgspec.structs.fields(shape)}
    assert [name for name in sorted(members) if f"`{name}`" not in text] == []


def all_errors(base: type[errors.OuthaulError]) -> list[type[errors.OuthaulError]]:
    return [base, *(error for child in base.__subclasses__() for error in all_errors(child))]


@pytest.mark.parametrize("error", all_errors(errors.OuthaulError), ids=lambda error: error.__name__)
def test_errors(error):
    assert f"| `{error.code}` |" in read("errors.md")
    assert error.__name__ in errors.__doc__


def test_codes_given_where_an_error_is_raised():
    documented = read("errors.md") + read("old-api.md")
    given = {
        keyword.value.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "code"
        and isinstance(keyword.value, ast.Constant)
        and isinstance(keyword.value.value, str)
    }
    assert "server_missing" in given
    assert [code for code in sorted(given) if f"`{code}`" not in documented] == []


@pytest.mark.parametrize("reason", REASONS)
def test_reasons(reason):
    assert f"| `{reason}` |" in read("errors.md")


@pytest.mark.parametrize("reason", get_args(wire.LineReason))
def test_reasons_of_imports(reason):
    assert f"| `{reason}` |" in read("imports.md")


def commands(group: click.Group, path: str = "outhaul") -> list[str]:
    return [
        found
        for name, command in group.commands.items()
        for found in (
            commands(command, f"{path} {name}") if isinstance(command, click.Group) else [f"{path} {name}"]
        )
    ]


@pytest.mark.parametrize("command", commands(outhaul))
def test_commands(command):
    section = read("cli.md").split(f"\n## {command}\n")[1].split("\n## ")[0]
    assert f"Usage: {command} " in section
    assert "Example:" in section


def test_commands_named_in_the_docs_exist():
    known = set(commands(outhaul)) | {f"outhaul {name}" for name in outhaul.commands}
    for page in PAGES:
        for words in re.findall(r"(?:^|`)(outhaul(?: [a-z]+){1,2})", page.read_text(), re.MULTILINE):
            assert any(words == name or words.startswith(f"{name} ") for name in known), (
                f"{page.name}: {words}"
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_named_exist(page):
    for path in re.findall(r"`((?:src|tests|docs|demo|bench)/[\w./-]*)`", page.read_text()):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_make_targets_named_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z]+)`|^make ([a-z]+)", page.read_text(), re.MULTILINE))
        assert {first or second for first, second in named} <= targets, page.name


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    listed = set(re.findall(r"^make (\w+) +\w", done.stdout, re.MULTILINE))
    phony = set(re.findall(r"^\.PHONY: (\w+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert listed == phony


def test_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    names = [re.match(r"[\w-]+", need)[0] for need in needed]
    text = read("decisions/dependencies.md")
    assert [name for name in names if f"| {name} |" not in text] == []


def test_decisions_are_dated():
    for note in (DOCS / "decisions").glob("*.md"):
        assert re.search(r"^\d{4}-\d\d-\d\d", note.read_text(), re.MULTILINE), note.name
