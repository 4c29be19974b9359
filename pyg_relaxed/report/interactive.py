"""Interactive figures of the page, with plotly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors

from ..surgery import thetas
from .geometry import arrow_scale, cell_edges, component_text, components, places, surface, with_images

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from ase import Atoms

    from ..discovery import Discovery

HIDDEN_AXIS = {"visible": False, "showbackground": False}
ARROW = "#1a237e"
FONT = {"family": "system-ui, sans-serif", "size": 13}


def structures(result: Discovery) -> go.Figure:
    """Draw the parent with displacement arrows beside the child in the canonical domain."""
    from plotly.subplots import make_subplots

    scale = arrow_scale(result.mapping.displacement, result.parent.edge)
    arrows = f"parent, displacements × {scale:g}" if result.is_broken else "parent"
    figure = make_subplots(1, 2, specs=[[{"type": "scene"}] * 2], subplot_titles=[arrows, "child"])
    images = with_images(result.parent.atoms)
    for trace in _crystal(result.parent.atoms, images, legend=True):
        figure.add_trace(trace, 1, 1)
    if result.is_broken:
        for trace in _arrows(result, images, scale):
            figure.add_trace(trace, 1, 1)
    for trace in _crystal(result.distorted(), images, legend=False):
        figure.add_trace(trace, 1, 2)
    # Both crystals to one scale.
    corners = np.concatenate([places(atoms, *images) for atoms in (result.parent.atoms, result.distorted())])
    middle, half = (corners.min(0) + corners.max(0)) / 2, 0.6 * np.ptp(corners, axis=0).max()
    ranges = {
        f"{axis}axis": {**HIDDEN_AXIS, "range": [m - half, m + half]} for axis, m in zip("xyz", middle, strict=True)
    }
    return _laid_out(figure, 420).update_scenes(**ranges, aspectratio={"x": 1.5, "y": 1.5, "z": 1.5})


def signals(result: Discovery) -> go.Figure:
    """Draw theta of each layer as a surface around the origin."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    layers = thetas(result.model)
    figure = make_subplots(1, len(layers), specs=[[{"type": "scene"}] * len(layers)], subplot_titles=_names(layers))
    for column, (theta, effects) in enumerate(zip(layers.values(), result.effects, strict=True), start=1):
        points, values = surface(theta, effects)
        x, y, z = np.moveaxis(points, -1, 0)
        limit = float(np.abs(values).max())
        colours = {"surfacecolor": values, "cmin": -limit, "cmax": limit, "colorscale": "RdBu_r", "showscale": False}
        hover = "signal %{surfacecolor:.3f}<extra></extra>"
        figure.add_trace(go.Surface(x=x, y=y, z=z, **colours, hovertemplate=hover), 1, column)
        for trace in _axes(1.3 * limit, result.parent.axes):
            figure.add_trace(trace, 1, column)
    return _laid_out(figure, 420)


def weights(result: Discovery) -> go.Figure:
    """Draw what each component of theta does, irrep by irrep, in Å; a plain 0 is exactly zero."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    layers = thetas(result.model)
    tables = [components(theta, effects) for theta, effects in zip(layers.values(), result.effects, strict=True)]
    figure = make_subplots(1, len(layers), subplot_titles=_names(layers))
    limit = max(float(np.nanmax(np.abs(table))) for _, table in tables)
    for column, (irreps, table) in enumerate(tables, start=1):
        degree = table.shape[1] // 2
        heat = go.Heatmap(
            z=table,
            x=[str(m) for m in range(-degree, degree + 1)],
            y=irreps,
            text=np.vectorize(component_text)(table, 3),
            texttemplate="%{text}",
            colorscale="RdBu_r",
            zmin=-limit,
            zmax=limit,
            showscale=False,
            hoverongaps=False,
            xgap=1,
            ygap=1,
        )
        figure.add_trace(heat, 1, column)
        figure.update_yaxes(autorange="reversed", title_text="irrep of theta" if column == 1 else None, col=column)
        figure.update_xaxes(title_text="component (l = 1: x, y, z)", col=column)
    return _laid_out(figure, 60 + 34 * max(len(irreps) for irreps, _ in tables))


def losses(result: Discovery) -> go.Figure:
    """Draw the loss of the strict and of the relaxed networks against the step."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for seed, fit in zip(result.seeds, result.fits, strict=True):
        figure.add_trace(go.Scatter(y=fit.losses, name=f"relaxed, seed {seed}", line={"width": 2}))
    strict = {"color": "black", "dash": "dash"}
    figure.add_trace(go.Scatter(y=result.strict.losses, name="strict", line=strict))
    figure.update_yaxes(type="log", title_text="loss", exponentformat="power")
    figure.update_xaxes(title_text="step")
    return _laid_out(figure, 360)


def _names(layers: dict[str, Any]) -> list[str]:
    return [f"layer {i}" for i in range(1, len(layers) + 1)]


def _crystal(atoms: Atoms, images: tuple[np.ndarray, np.ndarray], legend: bool) -> list[Any]:
    import plotly.graph_objects as go

    index, where = images[0], places(atoms, *images)
    traces = []
    for z in sorted(set(atoms.numbers), reverse=True):
        chosen = atoms.numbers[index] == z
        x, y, height = where[chosen].T
        marker = {
            "size": 6 + 6 * float(covalent_radii[z]),
            "color": _colour(z),
            "line": {"color": "#444", "width": 1},
        }
        hover = [f"{chemical_symbols[z]} {i}" for i in index[chosen]]
        name = {"name": chemical_symbols[z], "legendgroup": chemical_symbols[z], "showlegend": legend}
        traces.append(
            go.Scatter3d(x=x, y=y, z=height, mode="markers", marker=marker, text=hover, hoverinfo="text", **name)
        )
    traces.append(_lines(cell_edges(atoms.cell.array), "#999"))
    return traces


def _arrows(result: Discovery, images: tuple[np.ndarray, np.ndarray], scale: float) -> list[Any]:
    import plotly.graph_objects as go

    vectors = scale * result.mapping.displacement[images[0]]
    length = np.linalg.norm(vectors, axis=1)
    moved = length > 0.02 * result.parent.edge
    feet = places(result.parent.atoms, *images)[moved]
    tips = feet + vectors[moved]
    heads = vectors[moved] / length[moved, None]  # all of one size
    x, y, z = tips.T
    u, v, w = heads.T
    cones = go.Cone(
        x=x,
        y=y,
        z=z,
        u=u,
        v=v,
        w=w,
        anchor="tip",
        sizemode="raw",
        sizeref=0.1 * result.parent.edge,
        showscale=False,
        colorscale=[[0, ARROW], [1, ARROW]],
        hoverinfo="skip",
    )
    return [_lines(np.stack([feet, tips], axis=1), ARROW, width=7), cones]


def _axes(length: float, axes: np.ndarray) -> list[Any]:
    import plotly.graph_objects as go

    tips = length * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    x, y, z = tips.T
    names = go.Scatter3d(x=x, y=y, z=z, mode="text", text=["a", "b", "c"], hoverinfo="skip", showlegend=False)
    return [_lines(np.stack([np.zeros((3, 3)), tips], axis=1), "#888", width=2), names]


def _lines(segments: np.ndarray, colour: str, width: int = 2) -> Any:
    import plotly.graph_objects as go

    gaps = np.concatenate([segments, np.full((len(segments), 1, 3), np.nan)], axis=1).reshape(-1, 3)
    x, y, z = gaps.T
    line = {"color": colour, "width": width}
    return go.Scatter3d(x=x, y=y, z=z, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _colour(z: int) -> str:
    return "rgb({}, {}, {})".format(*(int(255 * c) for c in jmol_colors[z]))


def _laid_out(figure: go.Figure, height: int) -> go.Figure:
    view = {"eye": {"x": 1.05, "y": -1.9, "z": 0.6}, "projection": {"type": "orthographic"}}
    scene = {"aspectmode": "data", "xaxis": HIDDEN_AXIS, "yaxis": HIDDEN_AXIS, "zaxis": HIDDEN_AXIS, "camera": view}
    figure.update_scenes(**scene)
    margin = {"l": 55, "r": 10, "t": 56, "b": 40}
    return figure.update_layout(height=height, margin=margin, font=FONT, template="plotly_white")
