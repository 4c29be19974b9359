"""Model files: one safetensors file of tensors and JSON, no pickle, no Python name taken from the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize

from .compat import default_dtype, e3nn, o3
from .data.frame import check_frame
from .files import replacing
from .models import RelaxedDistortion, RelaxedE3NN, RelaxedPotential, RelaxedTensor

SCHEMA = 2  # 1 had the constants of e3nn's gate among the tensors
_CLOSED_LIST = (RelaxedDistortion, RelaxedE3NN, RelaxedPotential, RelaxedTensor)
MODELS = {cls.__name__: cls for cls in _CLOSED_LIST}
UNITS = {"length": "Å", "energy": "eV"}
DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}
OLD_CONFIG = {"theta_channels": 16}  # of files from before there was a choice


def save(
    model: torch.nn.Module, path: str | Path, frame: str = "cartesian", provenance: dict[str, Any] | None = None
) -> None:
    """Write a model to a ``.safetensors`` file.

    The metadata holds the schema version, class, config, dtype, units, frame, the sign convention of the
    Clebsch-Gordan coefficients, provenance, and a hash of all of it and the tensors.

    Args:
        model (torch.nn.Module): A model of :mod:`pyg_relaxed.models`.
        path (str or Path): The file, replaced as a whole or not at all.
        frame (str, optional): Where the axes of the training data come from, ``"cartesian"`` or ``"standard"``.
            (default: ``"cartesian"``)
        provenance (dict, optional): What is to be known about the training, as plain values.

    Raises:
        TypeError: If the model is of another class, or the provenance is not plain values.
        ValueError: If the frame is unknown.
        FileNotFoundError: If the directory does not exist.
    """
    name = type(model).__name__
    if MODELS.get(name) is not type(model):
        raise TypeError(f"cannot save a {name}: model files hold {', '.join(MODELS)}; save its state_dict() instead")
    check_frame(frame)
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    header: dict[str, Any] = {
        "schema": SCHEMA,
        "class": name,
        "config": model.config,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "units": UNITS,
        "frame": frame,
        "clebsch_gordan": clebsch_gordan_convention(),
        "versions": {"torch": torch.__version__, "e3nn": e3nn.__version__},
        "provenance": provenance or {},
    }
    header = json.loads(json.dumps(header))  # as it will be read: keys become strings
    header["sha256"] = _hash(header, tensors)
    metadata = {"pyg_relaxed": json.dumps(header, ensure_ascii=False)}
    with replacing(path) as new:
        new.write_bytes(serialize(tensors, metadata))  # save_file would hide it from all other users


def load(path: str | Path) -> torch.nn.Module:
    """Read a model from a file written by :func:`save`; it comes in evaluation mode, in its own dtype.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no model file, of an unknown schema or class, damaged, or of another sign convention.
    """
    header = read_header(path)
    if header.get("schema") not in (1, SCHEMA):
        raise ValueError(
            f"{path}: schema {header.get('schema')}, this version of pyg-relaxed reads schema 1 to {SCHEMA}"
        )
    tensors = load_file(path)
    expected = header.pop("sha256", None)
    if _hash(header, tensors) != expected:
        raise ValueError(f"{path}: the content does not match its hash, the file is damaged")
    if header["schema"] == 1:
        tensors = {key: value for key, value in tensors.items() if ".gate." not in key}
    if header["class"] not in MODELS:
        raise ValueError(f"{path}: unknown model class '{header['class']}', known are {', '.join(MODELS)}")
    if header["clebsch_gordan"] != clebsch_gordan_convention():
        raise ValueError(
            f"{path}: written with Clebsch-Gordan convention {header['clebsch_gordan']} (e3nn "
            f"{header['versions']['e3nn']}), this e3nn {e3nn.__version__} has {clebsch_gordan_convention()}"
        )
    if header["dtype"] not in DTYPES:
        raise ValueError(f"{path}: unknown dtype '{header['dtype']}', known are {', '.join(DTYPES)}")
    try:
        with default_dtype(DTYPES[header["dtype"]]):
            model = MODELS[header["class"]](**OLD_CONFIG | header["config"])
        model.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:  # a key of the config or a tensor that this version does not know
        raise ValueError(f"{path}: not a {header['class']} of this version of pyg-relaxed ({error})") from None
    return model.eval()


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a model file without reading its tensors.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no model file, or damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model file at {path}" + (": it is a folder" if Path(path).is_dir() else ""))
    with open(path, "rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    if is_archive:
        raise ValueError(f"{path}: an archive, maybe an exported model (see pyg_relaxed.deploy): only model files here")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from None
    if "checkpoint" in metadata:
        raise ValueError(f"{path}: a checkpoint of a training, which leaves its model in model.safetensors at the end")
    if "pyg_relaxed" not in metadata:
        raise ValueError(f"{path}: a safetensors file, but not written by pyg-relaxed")
    try:
        header = json.loads(metadata["pyg_relaxed"])
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: the metadata are damaged ({error})") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the metadata are damaged (no JSON object)")
    return header


def fingerprint(header: Mapping[str, Any]) -> str:
    """Return a short text that names a model file, given what :func:`read_header` returns."""
    return f"pyg-relaxed:{header['sha256'][:16]}"


def trained_label_names(header: Mapping[str, Any]) -> dict[str, str]:
    """Return under which names the labels stood that a model was trained on, where not their own."""
    section: Any = header["provenance"]
    for name in ("config", "data", "label_names"):
        section = section.get(name) if isinstance(section, dict) else None
    return dict(section) if isinstance(section, dict) else {}


def clebsch_gordan_convention() -> list[int]:
    """Return the signs by which releases of e3nn differ: of a few coefficients with l1 + l2 + l3 odd and even."""
    signs = []
    for l1, l2, l3 in ((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2), (2, 2, 3)):
        C = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).flatten()
        signs.append(int(torch.sign(C[C.abs() > 1e-9][0])))
    return signs


def _hash(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
