"""docs/training.md names every key of the config, and its default."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pyg_relaxed.train.config import Config, PotentialConfig, TensorConfig

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([a-z]+\.\w+)` \| (.*?) ?\| .+ \|$", PAGE, re.MULTILINE))


def keys():
    """Return every key with its default, of a potential where tensors have another, ``...`` where there is none."""
    found = {}
    for section, field in Config.model_fields.items():
        models = [TensorConfig, PotentialConfig] if section == "model" else [field.annotation]
        for model in models:
            assert issubclass(model, BaseModel)
            for name, key in model.model_fields.items():
                found[f"{section}.{name}"] = ... if key.is_required() else key.default
    return found


def test_every_key_is_there_and_no_other():
    assert ROWS.keys() == keys().keys()


@pytest.mark.parametrize("key", keys())
def test_its_default_is(key):
    expected, written = keys()[key], ROWS[key].strip("`")
    assert (... if written == "" else yaml.safe_load(written)) == expected
