"""What tests of trainings share: a config that is quick."""

from pyg_relaxed.train import Config


def config(structures, **changes):
    raw = {
        "data": {"train": str(structures), "validation": 0.25, "batch_size": 4},
        "model": {"cutoff": 4.0, "irreps_hidden": "4x0e+4x1o", "num_layers": 2, "lmax": 1, "irreps_theta": "0e+1o"},
        "loss": {"weights": {"energy": 1.0, "forces": 1.0, "stress": 1.0}},
        "trainer": {"epochs": 3, "dtype": "float64", "accelerator": "cpu"},
    }
    for section, values in changes.items():
        raw[section] = raw.get(section, {}) | values
    return Config(**raw)
