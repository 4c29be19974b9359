"""The figures of this folder, drawn after the paper's."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import training
from matplotlib.figure import Figure
from torch import Tensor
from torch_geometric.data import Data

import pyg_relaxed as pr
from pyg_relaxed.report.pictures import signal, weights

DPI = 150
TASKS = {"cube to cube": "tab:blue", "cube to prism": "tab:red", "cube to less symmetric": "tab:green"}
PAPER_STUCK = 0.313  # the paper's loss for the less symmetric shape


def draw_shape(path: Path, title: str, data: Data, model: torch.nn.Module) -> None:
    """Draw figures 1 to 3: the two shapes, and of theta all but 0e, as a signal on the sphere and as components."""
    layers = list(pr.thetas(model).values())
    figure = Figure(figsize=(4.1 * (1 + len(layers)), 7.4), layout="constrained")
    figure.suptitle(title, fontsize=13)
    grid = figure.add_gridspec(2, 1 + len(layers))
    _shapes(figure.add_subplot(grid[:, 0], projection="3d"), data)
    for i, theta in enumerate(layers, start=1):
        breaking = copy.deepcopy(theta).set_(theta() - copy.deepcopy(theta).strict_()())
        signal(figure.add_subplot(grid[0, i], projection="3d"), breaking, f"theta of layer {i} without 0e")
        weights(figure.add_subplot(grid[1, i]), breaking, f"layer {i}, without 0e")
    figure.savefig(path, dpi=DPI)


def record(out: Path, task: str, relaxed: training.Fit, strict: training.Fit) -> None:
    """Write down the losses and components of a task, and draw figure 4 from all that are there."""
    theta = next(iter(pr.thetas(relaxed.model).values()))
    result = {
        "relaxed": relaxed.losses,
        "strict": strict.losses,
        "nonzero": training.nonzero(relaxed.model),
        "dim": {str(ir): ir.dim for ir, _ in theta.blocks()},
    }
    (out / f"{task.replace(' ', '_')}.json").write_text(json.dumps(result))
    files = {task: out / f"{task.replace(' ', '_')}.json" for task in TASKS}
    results = {task: json.loads(file.read_text()) for task, file in files.items() if file.exists()}
    _draw_tasks(out / "figure_4_losses.png", results)


def _draw_tasks(path: Path, results: dict[str, Any]) -> None:
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    losses, counts = figure.subplots(1, 2)
    for task, result in results.items():
        losses.semilogy(result["relaxed"], color=TASKS[task], label=f"{task}, relaxed")
        losses.semilogy(result["strict"], color=TASKS[task], linestyle="--", label=f"{task}, strict")
    losses.axhline(PAPER_STUCK, color="0.5", linestyle=":", label="the paper's for the less symmetric shape")
    losses.set(title="losses", xlabel="step", ylabel="loss")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)

    irreps = [ir for ir in next(iter(results.values()))["dim"] if ir != "0e"]
    table = np.array([[result["nonzero"][ir] / result["dim"][ir] for ir in irreps] for result in results.values()])
    counts.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(table):
        result = list(results.values())[row]
        text = f"{result['nonzero'][irreps[column]]}/{result['dim'][irreps[column]]}"
        counts.text(column, row, text, ha="center", va="center", color="white" if share > 0.6 else "black")
    counts.set_xticks(range(len(irreps)), irreps)
    counts.set_yticks(range(len(results)), [task.replace("cube to ", "to ") for task in results])
    counts.set(title="components of theta that are not zero", xlabel="irrep")
    figure.savefig(path, dpi=DPI)


def draw_particle(
    path: Path,
    trajectories: dict[str, Tensor],
    arrows: dict[str, dict[str, Tensor]],
    losses: dict[str, list[float]],
) -> None:
    """Draw figure 5: a trajectory ``[steps, 3]`` by each method, the fields by each, the losses."""
    figure = Figure(figsize=(14, 4.8), layout="constrained")
    ax = figure.add_subplot(1, 3, 1, projection="3d")
    for (name, points), style in zip(trajectories.items(), ("k-", "r--", "c-.", "b:"), strict=False):
        ax.plot(*points.detach().numpy().T, style, label=name, linewidth=1.5)
    ax.set(title="a start that no network was trained on", xlabel="x", ylabel="y", zlabel="z")
    ax.legend(frameon=False, fontsize=8)

    ax = figure.add_subplot(1, 3, 2, projection="3d")
    styles = [("0.6", 5, "-"), ("tab:red", 1.5, "-"), ("tab:blue", 1.5, "--")]
    for (name, fields), (colour, width, line) in zip(arrows.items(), styles, strict=True):
        for symbol, field in fields.items():
            tip = field.detach().numpy()
            ax.quiver(0, 0, 0, *tip, color=colour, linewidth=width, linestyle=line, arrow_length_ratio=0.12)
            if name != "found":  # it lies on the true one
                ax.text(*(1.15 * tip), symbol, color=colour, ha="center", va="center")
        ax.plot([], [], color=colour, linewidth=width, linestyle=line, label=name)
    ax.set(title="fields", xlabel="x", ylabel="y", zlabel="z", xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], zticks=[-1, 0, 1])
    ax.legend(frameon=False, fontsize=8)

    ax = figure.add_subplot(1, 3, 3)
    for name, values in losses.items():
        ax.semilogy(values, label=name)
    ax.set(title="losses", xlabel="step", ylabel="mean squared error")
    ax.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=DPI)


def _shapes(ax: Any, data: Data) -> None:
    pos, target = data.pos.numpy(), data.target.numpy()
    sides = [(i, j) for i in range(8) for j in range(i) if np.isclose(pos[i], pos[j]).sum() == 2]
    for points, style, name in ((target, "o-r", "output"), (pos, "o:k", "input")):
        for i, j in sides:
            ax.plot(*points[[i, j]].T, style, linewidth=1.5, markersize=4, label=name if (i, j) == sides[0] else None)
    ax.set_proj_type("ortho")
    ax.view_init(elev=18, azim=-60)
    ax.set_aspect("equal")
    ax.set(xlabel="x", ylabel="y", zlabel="z", xticks=[], yticks=[], zticks=[])
    ax.legend(frameon=False)
