"""Model files: one safetensors file of tensors and JSON, no pickle, no Python name taken from the file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from .compat import default_dtype, e3nn, o3
from .models import RelaxedDistortion, RelaxedE3NN

SCHEMA = 1
MODELS = {cls.__name__: cls for cls in (RelaxedDistortion, RelaxedE3NN)}  # the closed list
UNITS = {"length": "Å", "energy": "eV"}


def save(
    model: torch.nn.Module, path: str | Path, frame: str = "cartesian", provenance: dict[str, Any] | None = None
) -> None:
    """Write a model to a ``.safetensors`` file.

    The metadata holds the schema version, class, config, dtype, units, frame, the sign convention of the
    Clebsch-Gordan coefficients, provenance, and a hash of the tensors.

    Args:
        model (torch.nn.Module): A model of :mod:`pyg_relaxed.models`.
        path (str or Path): The file, replaced as a whole or not at all.
        frame (str, optional): Where the axes of the training data come from. (default: ``"cartesian"``)
        provenance (dict, optional): What is to be known about the training, as plain values.

    Raises:
        TypeError: If the model is of another class.
    """
    name = type(model).__name__
    if MODELS.get(name) is not type(model):
        raise TypeError(f"cannot save a {name}: model files hold {', '.join(MODELS)}; save its state_dict() instead")
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    header = {
        "schema": SCHEMA,
        "class": name,
        "config": model.config,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "units": UNITS,
        "frame": frame,
        "clebsch_gordan": clebsch_gordan_convention(),
        "versions": {"torch": torch.__version__, "e3nn": e3nn.__version__},
        "provenance": provenance or {},
        "sha256": _hash(tensors),
    }
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, metadata={"pyg_relaxed": json.dumps(header, ensure_ascii=False)})
    temporary.replace(path)


def load(path: str | Path) -> torch.nn.Module:
    """Read a model from a file written by :func:`save`; it comes in evaluation mode, in its own dtype.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no model file, of an unknown schema or class, damaged, or of another sign convention.
    """
    header = read_header(path)
    if header.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema {header.get('schema')}, this version of pyg-relaxed reads schema {SCHEMA}")
    if header["class"] not in MODELS:
        raise ValueError(f"{path}: unknown model class '{header['class']}', known are {', '.join(MODELS)}")
    if header["clebsch_gordan"] != clebsch_gordan_convention():
        raise ValueError(
            f"{path}: written with Clebsch-Gordan convention {header['clebsch_gordan']} (e3nn "
            f"{header['versions']['e3nn']}), this e3nn {e3nn.__version__} has {clebsch_gordan_convention()}"
        )
    tensors = load_file(path)
    if _hash(tensors) != header["sha256"]:
        raise ValueError(f"{path}: the tensors do not match their hash, the file is damaged")
    with default_dtype(getattr(torch, header["dtype"])):
        model = MODELS[header["class"]](**header["config"])
    model.load_state_dict(tensors)
    return model.eval()


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a model file without reading its tensors."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from None
    if "pyg_relaxed" not in metadata:
        raise ValueError(f"{path}: a safetensors file, but not written by pyg-relaxed")
    return json.loads(metadata["pyg_relaxed"])


def clebsch_gordan_convention() -> list[int]:
    """Return the signs by which releases of e3nn differ: of a few coefficients with l1 + l2 + l3 odd and even."""
    signs = []
    for l1, l2, l3 in ((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2), (2, 2, 3)):
        C = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).flatten()
        signs.append(int(torch.sign(C[C.abs() > 1e-9][0])))
    return signs


def _hash(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].numpy().tobytes())
    return digest.hexdigest()
