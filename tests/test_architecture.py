"""The floor plan: every file belongs to a room, and every import, also inside a function, points to a lower floor.

`broken_rules` reads the files of a checkout as text; a rule that a file breaks is one line.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

ROOT = Path(__file__).resolve().parents[1]
DOORS = ("synth/__init__.py", "recon/__init__.py", "pipelines/__init__.py")
# From the ground up. A file may import from its own floor and from those before it; a folder is all that lies below it.
FLOORS = (
    (
        "synth/errors.py",
        "synth/given.py",
        "synth/rng.py",
        "synth/physics.py",
        "synth/snr.py",
        "synth/process.py",
        "synth/moved.py",
        "synth/version.py",
    ),
    ("synth/settings/",),
    ("synth/storage/",),
    ("synth/scans/",),
    ("synth/calibration/",),
    ("synth/stages/",),
    ("synth/sources/",),
    ("synth/recipe.py", "synth/pair.py", "synth/scan_pair.py", "synth/plan.py"),
    ("synth/corpus/",),
    ("synth/writers/",),
    ("recon/errors.py",),
    ("recon/data/",),
    ("recon/models/",),
    ("recon/evaluation/",),
    ("recon/training/",),
    ("pipelines/errors.py",),
    ("pipelines/ready/", "pipelines/display/"),
    ("pipelines/cluster.py", "pipelines/running.py", "pipelines/public_data/"),
    ("pipelines/corpus/",),
    ("pipelines/scans/", "pipelines/models/"),
    ("pipelines/study/",),
    ("pipelines/cli/",),
)
FOREIGN = {  # packages that a room does without
    "synth/": {"torch", "dask", "distributed", "typer", "rich", "matplotlib", "jinja2"},
    "recon/": {"dask", "distributed", "typer", "rich", "matplotlib", "jinja2"},
}
LATE = ("pipelines/cli/", *DOORS)  # may import Fathom's own modules inside functions, so that commands start fast
LONGEST_FILE, LONGEST_BODY = 300, 45


def broken_rules(root):
    """Every broken rule of a checkout, as one line that begins with the file."""
    files = {path.relative_to(root).as_posix(): ast.parse(path.read_text()) for path in sorted(source_files(root))}
    arrows = {name: set(imports(name, tree, files)) for name, tree in files.items()}
    found = set()
    for name, tree in files.items():
        found |= {f"{name}: {what}" for what in (*sizes(root / name, tree), *directions(name, arrows[name]))}
        if "shared/" in (root / name).read_text():
            found.add(f"{name}: names what lies outside of the project")
    return found | circles({name: {target for target, _, _ in there} for name, there in arrows.items()})


def source_files(root):
    return [path for room in ("synth", "recon", "pipelines") for path in (root / room).rglob("*.py")]


def imports(name, tree, files):
    """(file or package imported, at the top, line) of every import that runs; not those for type checkers."""
    typing = {
        id(n) for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for part in node.body for n in ast.walk(part)
    }  # fmt: skip
    inside = {
        id(n) for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda)) for n in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) not in typing:
            for module in modules_of(name, node):
                yield file_of(module, files) or module.split(".")[0], id(node) not in inside, node.lineno


def modules_of(name, node):
    """Modules that an import statement names, written out; of ``from x import y`` also x.y, which may be one."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    package = name.split("/")[: -node.level] if node.level else []
    base = ".".join([*package, *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def file_of(module, files):
    """The file of Fathom's that holds a module, or the module that a name is taken from."""
    parts = module.split(".")
    for length in (len(parts), len(parts) - 1):
        stem = "/".join(parts[:length])
        for file in (f"{stem}.py", f"{stem}/__init__.py"):
            if file in files:
                return file
    return None


def floor_of(name):
    """Number of the floor, or None where no rule covers a file. A folder's empty `__init__.py` belongs to it."""
    for number, places in enumerate(FLOORS):
        if any(name == place or (place.endswith("/") and name.startswith(place)) for place in places):
            return number
    return None


def directions(name, arrows):
    floor = floor_of(name)
    if floor is None and name not in DOORS:
        yield "stands where no rule covers it"
    for target, at_top, _ in arrows:
        if "/" not in target:
            foreign = next((packages for room, packages in FOREIGN.items() if name.startswith(room)), set())
            if target in foreign:
                yield f"imports {target}"
            continue
        if not at_top and not name.startswith(LATE):
            yield f"imports {target} inside a function"
        if target in DOORS and name != target:
            yield f"imports from the door {target}"
        elif name not in DOORS and (floor_of(target) is None or floor is None or floor_of(target) > floor):
            yield f"imports upwards from {target}"


def sizes(path, tree):
    if len(path.read_text().splitlines()) > LONGEST_FILE:
        yield f"has more than {LONGEST_FILE} lines"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node, clean=False)
            body = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            if body > LONGEST_BODY:
                yield f"{node.name} has more than {LONGEST_BODY} lines"


def circles(graph):
    """Every circle of imports, found by following the imports of each file in turn."""
    found, done, path = set(), set(), []

    def visit(name):
        if name in path:
            found.add(f"{name}: a circle, " + " -> ".join([*path[path.index(name) :], name]))
        elif name in graph and name not in done:
            path.append(name)
            for target in sorted(graph[name] - {name}):
                visit(target)
            path.pop()
            done.add(name)

    for name in sorted(graph):
        if name not in DOORS:  # they import from everywhere, and nothing imports from them
            visit(name)
    return found


def test_the_house_is_in_order():
    assert broken_rules(ROOT) == set()


LONG = "def long():\n" + '    """What it does."""\n' + "    x = 1\n" * 44
CASES = {
    "a circle through a function's import": (
        {"synth/stages/one.py": "from .two import f\n", "synth/stages/two.py": "def f():\n    from . import one\n"},
        "a circle, synth/stages/one.py -> synth/stages/two.py -> synth/stages/one.py",
    ),
    "a room's import inside a function": (
        {"synth/stages/one.py": "def f():\n    from ..physics import fft2c\n"},
        "imports synth/physics.py inside a function",
    ),
    "a file in an unknown folder": ({"synth/attic/box.py": ""}, "synth/attic/box.py: stands where no rule covers it"),
    "a file beside the rooms": ({"recon/box.py": ""}, "recon/box.py: stands where no rule covers it"),
    "torch at the top of synth": ({"synth/stages/one.py": "import torch\n"}, "synth/stages/one.py: imports torch"),
    "dask inside a function of recon": ({"recon/data/one.py": "def f():\n    import dask\n"}, "imports dask"),
    "an arrow upwards": ({"synth/stages/one.py": "from recon.data import x\n", "recon/data/x.py": ""}, "upwards from"),
    "an arrow to a door": ({"recon/data/one.py": "from synth import Plan\n"}, "imports from the door synth"),
    "a body of 46 lines": ({"synth/physics.py": LONG + "    return x\n"}, "long has more than 45 lines"),
    "a file of 301 lines": ({"synth/physics.py": "x = 1\n" * 301}, "has more than 300 lines"),
}


@pytest.mark.parametrize("case", CASES)
def test_rules_bite(case, tmp_path):
    files, message = CASES[case]
    for name in (*DOORS, "synth/physics.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert broken_rules(tmp_path) == set()
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = broken_rules(tmp_path)
    assert any(message in line for line in found), found


def test_what_just_fits_breaks_no_rule(tmp_path):
    (tmp_path / "synth").mkdir()
    (tmp_path / "synth" / "physics.py").write_text(LONG + "\n" * 10)
    assert broken_rules(tmp_path) == set()


def test_synth_works_without_torch():
    code = "import sys; sys.modules['torch'] = None; import synth.corpus.reader; assert 'dask' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_process_of_the_suite_has_one_thread():
    """The conftest says why; a plugin that imports numpy before it must not undo it."""
    if "PYTEST_XDIST_WORKER" not in os.environ or os.environ["OMP_NUM_THREADS"] != "1":
        pytest.skip("no other process shares the suite")
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
