"""Write a report to a directory."""

from __future__ import annotations

import json
import platform
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io import save

if TYPE_CHECKING:
    from ..discovery import Discovery

PICTURES = ("summary", "structure", "theta", "weights", "losses")
PACKAGES = ("pyg-relaxed", "torch", "torch-geometric", "e3nn", "spglib", "ase")


def write(result: Discovery, directory: str | Path, title: str | None = None) -> Path:
    """Write ``index.html``, ``report.json``, ``model.safetensors`` and pictures; return the path of the page.

    The page needs nothing but itself. Without the extra ``[viz]`` it has no figures and no pictures are written.

    Args:
        result (Discovery): The findings.
        directory (str or Path): Made if it does not exist; files of the same names are replaced.
        title (str, optional): Title of the page. (default: the compound and its two space groups)
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    formula = result.parent.atoms.symbols.formula.reduce()[0].format("metal")
    title = title or f"{formula}: {result.parent.space_group} to {result.child_space_group}"
    report = {**result.to_dict(), "title": title, "versions": versions()}
    # Nothing is replaced before all is written; the page comes last, and no picture of an earlier run stays beside it.
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        new = Path(temporary)
        (new / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        provenance = {key: report[key] for key in ("title", "sentences", "seeds", "versions")}
        frame = result.fits[result.best].graph.frame
        save(result.model, new / "model.safetensors", frame=frame, provenance=provenance)
        pictures = []
        if find_spec("matplotlib"):
            from .pictures import save_pictures

            pictures = save_pictures(result, new)
        (new / "index.html").write_text(_page(result, report, pictures), encoding="utf-8")
        for file in sorted(new.iterdir(), key=lambda file: file.name == "index.html"):
            file.replace(directory / file.name)
        for name in {f"{name}.png" for name in PICTURES} - set(pictures):
            (directory / name).unlink(missing_ok=True)
    return directory / "index.html"


def versions() -> dict[str, str]:
    """Return the versions of what takes part."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def _page(result: Discovery, report: dict[str, Any], pictures: list[str]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pyg_relaxed", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    figures, script = {}, ""
    if find_spec("plotly"):
        from plotly.offline import get_plotlyjs

        from . import interactive

        script = get_plotlyjs()
        for draw in (interactive.structures, interactive.signals, interactive.weights, interactive.losses):
            figures[draw.__name__] = draw(result).to_html(
                full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
            )
    displacements = [
        (symbol, np.round(place, 4).tolist(), np.round(move, 4).tolist())
        for symbol, place, move in zip(
            result.parent.atoms.get_chemical_symbols(),
            result.parent.atoms.positions,
            result.mapping.displacement,
            strict=True,
        )
    ]
    return environment.get_template("page.html").render(
        result=result,
        report=report,
        figures=figures,
        plotly=script,
        pictures=pictures,
        displacements=displacements,
    )
