"""What examples/materials/molecule_in_hidden_field.py finds, over seeds of data and model, and the negative control.

    python benchmarks/hidden_field.py --out hidden_field [--seeds 0 1 2 3 4] [--teacher .venv/bin/python]

Each seed draws a direction of the field (0.005 a.u.), the molecules and the weights. Data are made by GFN2-xTB, by the
interpreter that has tblite. What is done stands in ``results-*.json`` and is not done again; two processes can take
different seeds. Some ten minutes of one core for each seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from torch_geometric.data import Batch

import pyg_relaxed as pr

EXAMPLES = Path(__file__).parents[1] / "examples" / "materials"
sys.path.insert(0, str(EXAMPLES))
import molecule_in_hidden_field as example  # noqa: E402

STRENGTH = 0.005  # a.u.
GIVEN, OTHER = (0.0025, 0.005, 0.0075), (0.00375, 0.00625, 0.01)  # strengths of supplied fields: learned, tried
NEUTRAL, IONS = ("H2O", "NH3"), ("NH4+", "H3O+")
# Data, what is learnt, whether dipoles are labels, iterations of L-BFGS (few where the figure asked for needs no more).
CASES: dict[str, tuple[str, str, bool, int]] = {
    "strict": ("field", "strict", False, 100),
    "axis": ("field", "axis", False, 1500),
    "none": ("none", "axis", False, 20),
    "ions": ("ions", "vector", False, 500),
    "dipoles": ("field", "vector", True, 250),
    "supplied": ("supplied", "supplied", False, 1000),
}

Figure = Callable[[dict[str, Any], dict[str, Any]], float]  # of what a case found and what all of the seed found

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--out", type=Path, required=True, help="directory of data and results")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
parser.add_argument("--teacher", default=sys.executable, help="Python with tblite (default: this one)")


def make(options: argparse.Namespace, name: str, seed: int, *arguments: Any) -> Path:
    """Return a file of molecules, made if it is not there."""
    path: Path = options.out / f"{name}-{seed}.extxyz"
    if not path.exists():
        command = [options.teacher, str(EXAMPLES / "make_molecules_in_field.py"), "--out", str(path)]
        command += ["--seed", str(seed), "--displacement", "0.02", *map(str, arguments)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return path


def data(options: argparse.Namespace, seed: int) -> dict[str, Path]:
    """Return the files of a seed."""
    direction = np.random.default_rng(seed).normal(size=3)
    field = STRENGTH * direction / np.linalg.norm(direction)
    size = ("--num-structures", 1200, "--molecules")
    small = ("--num-structures", 400, "--molecules")
    return {
        "field": make(options, "field", seed, *size, *NEUTRAL, "--field", *field),
        "ions": make(options, "ions", seed, *size, *IONS, "--field", *field),
        "none": make(options, "none", seed, *size, *NEUTRAL, "--field", 0, 0, 0),
        "supplied": make(options, "supplied", seed, *size, *NEUTRAL, "--strengths", *GIVEN),
        "other": make(options, "other", 1000 + seed, *small, *NEUTRAL, "--strengths", *OTHER),
    }


def run(options: argparse.Namespace, files: dict[str, Path], case: str, seed: int) -> dict[str, Any]:
    """Return the figures of a case, and keep its model."""
    name, kind, dipoles, iterations = CASES[case]
    model, held_out = example.learn(files[name], kind, dipoles, seed, iterations=iterations)
    pr.save(model, options.out / f"{case}-{seed}.safetensors")
    found: dict[str, Any] = {"error": 1e3 * example.force_error(model, held_out)}
    if kind == "supplied":
        frames = ase.io.read(files["other"], index=":")
        for strength in OTHER:
            chosen = [a for a in frames if np.isclose(np.linalg.norm(a.info["electric_field"]), strength * example.AU)]
            batch = Batch.from_data_list([pr.from_ase(atoms, model.cutoff, extras=False) for atoms in chosen])
            found[f"error at {strength}"] = 1e3 * example.force_error(model, batch)
            off = (model(batch)["dipole"] - batch.dipole).norm(dim=1).mean() / batch.dipole.norm(dim=1).mean()
            found[f"dipole at {strength}"] = 100 * off.item()
    if kind in ("axis", "vector"):
        finding = example.find(model, held_out, seed)
        found |= {"broken": bool(finding.is_broken), "p": float(finding.probability), "effect": 1e3 * finding.effect}
        found |= {"group": finding.group, "theta": next(iter(pr.thetas(model).values())).norms()}
        hidden = ase.io.read(files[name], index=0).info["hidden_field"]
        if finding.axis is not None:
            off = example.angle(finding.axis, hidden)
            found["angle"] = off if finding.field is not None else min(off, 180 - off)
        if finding.field is not None:
            found["size"] = 100 * (np.linalg.norm(finding.field) / np.linalg.norm(hidden) - 1)
    return found


def table(results: dict[int, dict[str, Any]]) -> None:
    """Print the figures as Markdown: the least and the largest over the seeds that are done."""

    def spread(case: str, value: Figure) -> str:
        values = [
            value(done[case], done) for done in results.values() if case in done and {"strict", "axis"} <= set(done)
        ]
        return f"{min(values):.3g} to {max(values):.3g} ({len(values)} seeds)" if values else "not run"

    print("\n| data | figure | least and largest |\n|---|---|---|")
    lines: list[tuple[str, str, str, Figure]] = [
        ("energies and forces", "axis off by, °", "axis", lambda own, _: own["angle"]),
        ("energies and forces", "error of the forces, meV/Å", "axis", lambda own, _: own["error"]),
        (
            "energies and forces",
            "strict error / error",
            "axis",
            lambda own, others: others["strict"]["error"] / own["error"],
        ),
        ("with dipoles", "vector off by, °", "dipoles", lambda own, _: own["angle"]),
        ("with dipoles", "size off by, %", "dipoles", lambda own, _: own["size"]),
        ("ions", "vector off by, °", "ions", lambda own, _: own["angle"]),
        ("ions", "size off by, %", "ions", lambda own, _: own["size"]),
        ("no field", "p of a broken symmetry", "none", lambda own, _: own["p"]),
        ("no field", "effect / with field", "none", lambda own, others: own["effect"] / others["axis"]["effect"]),
    ]
    for case, strength, (name, unit) in product(CASES, OTHER, (("error", "meV/Å"), ("dipole", "%"))):
        if CASES[case][1] == "supplied":
            key = f"{name} at {strength}"
            lines.append((f"{case}, {strength} a.u.", f"{name}, {unit}", case, lambda own, _, key=key: own[key]))
    for what, figure, case, value in lines:
        print(f"| {what} | {figure} | {spread(case, value)} |")


def main() -> None:
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for seed in options.seeds:
        path = options.out / f"results-{seed}.json"
        results[seed] = json.loads(path.read_text()) if path.exists() else {}
        files = data(options, seed)
        for case in options.cases:
            if case not in results[seed]:
                results[seed][case] = run(options, files, case, seed)
                print(seed, case, results[seed][case], flush=True)
                path.write_text(json.dumps(results[seed], indent=1))
    table(results)


if __name__ == "__main__":
    main()
