"""The rules of the house, checked on the source: who may import whom, what is imported where, how large things are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
MODULE_LINES = 500
FUNCTION_LINES = 60

ENGINES = {
    "alembic": {"ledger"},
    "cryptography": {"keys"},
    "dbos": {"jobs"},
    "deltalake": {"tables"},
    "duckdb": {"land", "export", "maintain"},
    "granian": {"server"},
    "isal": {"export"},
    "jwt": {"api"},
    "numpy": {"land", "export"},
    "obstore": {"container"},
    "sqlalchemy": {"ledger"},
    "starlette": {"api"},
    "zstandard": {"export", "inflate"},
}
"""Which rooms may import an engine."""
ALLOWED = {
    "vocabulary": {"vocabulary"},
    "noun": {"vocabulary"},
    "verb": {"vocabulary", "noun"},
    "door": {"vocabulary", "noun", "door"},
    "composition": {"vocabulary", "noun", "verb", "door"},
}
BASE = ("click", "httpx2", "msgspec")
LATE = {
    "outhaul",  # the client, which the server does without
    "outhaul.cli.folder",  # the server's packages, which a base install lacks
    "outhaul.client.opening",  # the libraries that exports are opened with
}
"""Which modules import late."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted((SOURCE / "outhaul").rglob("*.py"))}


def room(module: str) -> str:
    """The part of the house a module is in: `outhaul.ledger.tables` is in `ledger`."""
    return module.split(".")[1] if "." in module else ""


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(module: str, *, for_types: bool = True) -> set[str]:
    """What a module imports, as full names; those of ours as the module that is meant."""
    found: set[str] = set()
    queue: list[ast.AST] = [tree(module)]
    while queue:
        node = queue.pop()
        if is_type_checking(node) and not for_types:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(name if name in MODULES else node.module for name in names)
        queue.extend(ast.iter_child_nodes(node))
    return found


def kinds() -> dict[str, str]:
    """The kind of each room, as ARCHITECTURE.md has it."""
    rows = re.findall(
        r"^\| `src/outhaul/(\w+)[^`]*` \| (\w+) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE
    )
    return dict(rows)


def test_every_room_is_in_the_architecture():
    rooms = {room(module) for module in MODULES} - {"", "__main__"}
    assert rooms == set(kinds())
    assert set(kinds().values()) == set(ALLOWED)


def test_there_are_no_import_cycles():
    graph = {module: imports(module, for_types=False) & set(MODULES) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports go in a circle: {' → '.join(error.args[1])}")


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) not in {"", "__main__"}])
def test_rooms_import_only_what_their_kind_may(module):
    kind_of = kinds()
    here = room(module)
    for imported in imports(module) & set(MODULES):
        there = room(imported)
        if there in {"", here}:
            continue
        assert kind_of[there] in ALLOWED[kind_of[here]], (
            f"{module}, a {kind_of[here]}, imports {imported}, a {kind_of[there]}"
        )


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_are_imported_in_their_rooms_only(engine):
    users = {room(m) for m in MODULES if any(name.split(".")[0] == engine for name in imports(m))}
    assert users, f"nothing imports {engine}"
    assert users <= ENGINES[engine]


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_imported_inside_functions(module):
    for function in functions(module):
        inner = [node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not inner, f"{module}.{function.name} imports inside"
    late = "importlib" in imports(module)
    assert late == (module in LATE), module


def functions(module: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_are_small(module):
    assert len(MODULES[module].read_text().splitlines()) <= MODULE_LINES, module
    for function in functions(module):
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        assert lines <= FUNCTION_LINES, f"{module}.{function.name} has {lines} lines"


def reads_environment(module: str) -> bool:
    names = {"environ", "environb", "getenv"}
    nodes = list(ast.walk(tree(module)))
    attributes = any(isinstance(node, ast.Attribute) and node.attr in names for node in nodes)
    imported = any(
        isinstance(node, ast.ImportFrom) and names & {a.name for a in node.names} for node in nodes
    )
    return attributes or imported


def test_only_config_reads_the_environment():
    assert [module for module in MODULES if reads_environment(module)] == ["outhaul.config"]


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_left_to_do(module):
    text = MODULES[module].read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    assert "utils" not in module
    if module.count(".") and MODULES[module].name == "__init__.py":
        code = [node for node in tree(module).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert not code, f"{module} holds code in __init__.py"


BARE = """
import sys
from importlib.metadata import requires, packages_distributions
from importlib.machinery import PathFinder

class Refuse:
    '''Makes every package but those of the base install look as if it were not installed.'''
    allowed = set(sys.stdlib_module_names) | {"outhaul", *sys.argv[1].split(",")}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""


def base_packages() -> str:
    """Import names of what `pip install outhaul` installs: the three and what they need."""
    code = (
        "import re, sys\n"
        "from importlib.metadata import distribution, packages_distributions, PackageNotFoundError\n"
        "todo, seen = sys.argv[1].split(','), set()\n"
        "canonical = lambda name: re.sub('[-_.]+', '-', name).lower()\n"
        "while todo:\n"
        "    name = canonical(todo.pop())\n"
        "    if name in seen: continue\n"
        "    seen.add(name)\n"
        "    try: needs = distribution(name).requires or []\n"
        "    except PackageNotFoundError: continue\n"
        "    todo += [re.match(r'[\\w.-]+', need)[0] for need in needs if 'extra ==' not in need]\n"
        "print(','.join(top for top, names in packages_distributions().items() if seen & set(map(canonical, names))))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, ",".join(BASE)], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def bare():
    """Run Python as on a base install: only its packages can be imported."""
    packages = base_packages().strip()
    assert "click" in packages.split(",")
    assert "duckdb" not in packages.split(",")

    def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", BARE + code, packages, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    return run


@pytest.mark.parametrize(
    "module", ["", ".cli", ".client", ".errors", ".config", ".records", ".schema", ".wire"]
)
def test_the_base_install_is_enough_for(bare, module):
    done = bare(f"import outhaul{module}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["serve", "apps list", "credentials create x", "tables list", "rejects"])
def test_commands_of_the_server_say_what_a_base_install_lacks(bare, command, tmp_path):
    (tmp_path / "ledger.db").touch()
    code = "from outhaul.cli import main; main(sys.argv[2:])"
    done = bare(code, *command.split(), "--data", str(tmp_path))
    assert done.returncode == 1
    assert "needs `pip install 'outhaul[server]'`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("export list", 7),
        ("export check shop event --from 2026-11-01 --to 2026-12-01", 7),
        ("config list", 0),
        ("config show", 0),
        ("doctor", 1),
        ("completion bash", 0),
    ],
)
def test_commands_of_users_need_no_more_than_a_base_install(bare, command, code, tmp_path, monkeypatch):
    monkeypatch.setenv("OUTHAUL_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("OUTHAUL_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OUTHAUL_TOKEN", "outhaul_token")
    done = bare("from outhaul.cli import main; main(sys.argv[2:])", *command.split())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "pip install" not in done.stderr
