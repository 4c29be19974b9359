"""Imports run one way, and importing the package changes nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyg_relaxed

PACKAGE = Path(pyg_relaxed.__file__).parent
BOTTOM = {"typing", "checks", "compat", "files"}
# What each part may import. Lazy imports in functions count; imports for type checkers do not.
ALLOWED = {
    "typing": {"compat"},
    "checks": {"compat"},
    "compat": set(),
    "files": set(),
    "o3": BOTTOM,
    "kernels": BOTTOM | {"o3"},
    "symmetry": BOTTOM | {"o3"},
    "data": BOTTOM,
    "structures": BOTTOM,
    "adapters": BOTTOM | {"data"},
    "transforms": BOTTOM | {"o3", "data", "surgery", "symmetry"},
    "datasets": BOTTOM | {"data", "adapters", "symmetry", "transforms"},
    "nn": BOTTOM | {"o3", "kernels"},
    "models": BOTTOM | {"o3", "kernels", "nn", "data"},
    "surgery": BOTTOM | {"o3"},
    "optim": BOTTOM | {"o3", "surgery"},
    "breaking": BOTTOM | {"o3", "surgery", "symmetry"},
    "io": BOTTOM | {"models", "data"},
    "calculators": BOTTOM | {"data", "adapters", "models", "io"},
    "deploy": BOTTOM | {"data", "kernels", "nn", "models", "io", "surgery", ""},
    "discovery": BOTTOM | {"o3", "symmetry", "data", "adapters", "models", "surgery", "optim"},
    "report": BOTTOM | {"surgery", "io"},
    "train": BOTTOM
    | {"o3", "data", "adapters", "datasets", "models", "surgery", "symmetry", "optim", "io", "breaking"},
    "cli": BOTTOM
    | {
        "adapters",
        "breaking",
        "calculators",
        "datasets",
        "deploy",
        "discovery",
        "io",
        "report",
        "surgery",
        "train",
        "",
    },
}
MODULES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def part(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_parts(path):
    """Return the parts of the package that a module imports, ``""`` for the package itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    package = path.relative_to(PACKAGE.parent).with_suffix("").parts
    package = package[:-1]
    for node in ast.walk(tree):
        if id(node) in typing_only or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        else:
            base = list(package[: len(package) + 1 - node.level]) if node.level else []
            base += node.module.split(".") if node.module else []
            targets = [[*base, alias.name] for alias in node.names]
        for target in targets:
            if target[0] == PACKAGE.name:
                name = target[1] if len(target) > 1 else ""
                yield name if name in ALLOWED else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    assert part(path) in ALLOWED, "say here what the new part may import"
    assert set(imported_parts(path)) - {part(path)} <= ALLOWED[part(path)]


def test_no_part_can_reach_itself():
    def reachable(name, seen=()):
        for other in ALLOWED[name] - {""}:
            assert other not in (*seen, name)
            reachable(other, (*seen, name))

    for name in ALLOWED:
        reachable(name)


def test_every_file_has_a_name_that_says_what_it_is():
    assert not {path.stem for path in MODULES} & {"utils", "util", "tools", "common", "misc", "helpers"}


IMPORT = """
import os, random, sys, warnings
import numpy, torch, torch_geometric  # our dependencies do what they do
with torch.serialization.safe_globals([slice]):  # e3nn 0.4.4 does not import without
    import e3nn.o3
numpy.random.seed(0); random.seed(0); torch.manual_seed(0)
def state():
    return (torch.get_default_dtype(), torch.get_num_threads(), torch.get_rng_state().tolist(), random.getstate(),
            numpy.random.get_state()[1].tolist(), dict(os.environ), list(warnings.filters),
            torch.are_deterministic_algorithms_enabled(), sorted(os.listdir()))
before = state()
import pyg_relaxed
assert state() == before
heavy = {"ase", "pymatgen", "spglib", "matplotlib", "plotly", "lightning", "nequip", "mace"} & set(sys.modules)
assert not heavy, heavy
"""


def test_importing_changes_no_global_state_and_brings_nothing_heavy(tmp_path):
    subprocess.run([sys.executable, "-W", "ignore", "-c", IMPORT], check=True, cwd=tmp_path)


def test_public_names_exist():
    for name in pyg_relaxed.__all__:
        assert getattr(pyg_relaxed, name) is not None
    assert set(pyg_relaxed.__all__) <= set(dir(pyg_relaxed))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pyg_relaxed.nothing
