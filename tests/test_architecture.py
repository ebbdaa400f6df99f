"""The arrows: pipelines -> recon -> synth, never back; inside synth no cycle, and no torch of its own."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("synth", "recon", "pipelines")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]


def imports(path, *, everywhere=True):
    """Modules that a file imports, written out; without those for type checking."""
    package = path.parent.name
    tree = ast.parse(path.read_text())
    skipped = {
        id(n) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in node.body for n in ast.walk(part)
    }  # fmt: skip
    nodes = ast.walk(tree) if everywhere else tree.body
    found = set()
    for node in nodes:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            names = {f"{module}.{alias.name}" for alias in node.names} if not node.module else {module}
            found |= names
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_arrows_between_rooms(path):
    allowed = ROOMS[: ROOMS.index(path.parent.name) + 1]
    rooms = {module.split(".")[0] for module in imports(path)} & set(ROOMS)
    assert rooms <= set(allowed), f"{path.name} imports from {rooms - set(allowed)}"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "synth"], ids=lambda p: p.name)
def test_synth_never_imports_torch_or_dask(path):
    roots = {module.split(".")[0] for module in imports(path)}
    assert not roots & {"torch", "dask", "distributed", "typer", "matplotlib"}


def test_no_cycle_at_import_time():
    graph = {
        f"{p.parent.name}.{p.stem}": {m for m in imports(p, everywhere=False) if m.split(".")[0] in ROOMS}
        for p in FILES
    }
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done or module not in graph:
            return
        path.append(module)
        for imported in sorted(graph[module]):
            visit(imported)
        path.pop()
        done.add(module)

    for module in graph:
        visit(module)


def test_synth_works_without_torch():
    import subprocess

    code = "import sys; sys.modules['torch'] = None; import synth.corpus, synth.plan; assert 'dask' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_sizes_to_feel_at_home_in():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 300, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                assert node.end_lineno - node.lineno - doc.count("\n") <= 62, f"{path.name}: {node.name}"


def test_nothing_outside_the_project_is_named():
    for path in FILES:
        assert "shared/" not in path.read_text(), path
