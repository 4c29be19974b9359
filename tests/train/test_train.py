"""From a config to a model file: what is wrong is named, what is interrupted goes on to the same weights."""

import os
import shutil
import signal
import subprocess
import sys
import time

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from filelock import FileLock
from trainings import config

import pyg_relaxed as pr
from pyg_relaxed.cli import main
from pyg_relaxed.io import read_header
from pyg_relaxed.models import RelaxedPotential
from pyg_relaxed.optim import RelaxedAdam
from pyg_relaxed.train import Config, Parts, build, evaluate, read_config, train
from pyg_relaxed.train.checkpoint import SafetensorsCheckpoint
from pyg_relaxed.train.losses import Errors, residual
from pyg_relaxed.train.verdict import loss_on, sentence

# What Lightning and TensorBoard warn of on import and on small machines.
pytestmark = pytest.mark.filterwarnings("ignore:::lightning.*", "ignore::DeprecationWarning")


def weights(path):
    return pr.load(path).state_dict()


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_training_lowers_the_error_and_says_where_it_comes_from(structures, tmp_path, capsys):
    chosen = config(structures, trainer={"epochs": 20}, data={"test": 0.25}, optimizer={"lr": 0.01, "ema": 0.9})
    path = train(chosen, tmp_path / "run")
    header = pr.io.read_header(path)
    assert header["provenance"]["config"] == chosen.model_dump(mode="json")
    assert header["provenance"]["counts"]["train"] == {"structures": 12, "energy": 12, "forces": 12, "stress": 12}
    assert len(header["provenance"]["data"]) == 32
    assert read_config(tmp_path / "run" / "config.yaml") == chosen
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("epoch ") and "forces (meV/Å)" in line for line in lines) == 20
    dataset = pr.datasets.AtomsDataset(structures, 4.0, dtype=torch.float64, progress=False)
    trained = evaluate(pr.load(path), dataset)
    untrained = evaluate(build(chosen, dataset), dataset)
    assert trained["forces"]["rmse"] < 0.8 * untrained["forces"]["rmse"]
    assert trained["energy"]["count"] == 24


def test_killed_and_resumed_it_ends_at_the_same_weights(structures, tmp_path):
    chosen = config(structures, trainer={"epochs": 6})
    expected = weights(train(chosen, tmp_path / "whole"))
    file = tmp_path / "config.yaml"
    file.write_text(chosen.to_yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "pyg_relaxed.cli", "train", str(file), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())})
    last = tmp_path / "run" / "checkpoints" / "last.safetensors"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists()
    assert not (tmp_path / "run" / "model.safetensors").exists(), "it was too fast to be killed"
    assert_same(weights(train(chosen, tmp_path / "run")), expected)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_says_so_and_fails(structures, tmp_path, sent, code):
    file = tmp_path / "config.yaml"
    file.write_text(config(structures, trainer={"epochs": 500}).to_yaml(), encoding="utf-8")
    command = [sys.executable, "-m", "pyg_relaxed.cli", "train", str(file), "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it in the background
    ) as process:
        try:
            assert any(line.startswith("epoch 1/500") for line in process.stdout)
            process.send_signal(sent)
            _, complaint = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert "interrupted after epoch" in complaint
    assert "the same command goes on" in complaint
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_folder_is_for_one_training_at_a_time(structures, tmp_path):
    train(config(structures, trainer={"epochs": 1}), tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_text()
    with FileLock(tmp_path / "run" / "in_use.lock"), pytest.raises(ValueError, match="in use by another training"):
        train(config(structures, trainer={"epochs": 2}), tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").read_text() == before
    train(config(structures, trainer={"epochs": 2}), tmp_path / "run")


def test_in_a_folder_that_was_moved_it_goes_on_as_where_it_was(structures, tmp_path):
    train(config(structures, trainer={"epochs": 2}), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    longer = config(structures, trainer={"epochs": 4})
    expected = train(longer, tmp_path / "run").rename(tmp_path / "expected.safetensors")
    shutil.rmtree(tmp_path / "run")
    found = train(longer, tmp_path / "moved")
    assert_same(weights(found), weights(expected))
    one, other = (pr.io.read_header(path)["provenance"] for path in (found, expected))
    assert one["validation_loss"] == other["validation_loss"]


def test_another_config_or_other_data_do_not_go_on(structures, tmp_path):
    train(config(structures, trainer={"epochs": 1}), tmp_path / "run")
    with pytest.raises(ValueError, match=r"optimizer\.lr was 0\.005, is 0\.1"):
        train(config(structures, trainer={"epochs": 1}, optimizer={"lr": 0.1}), tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="something else than a training"):
        train(config(structures), tmp_path / "other")


TWO = """
import sys, torch
from lightning.pytorch import Callback
from pyg_relaxed.train import read_config, train

class Gradients(Callback):
    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == 0 and trainer.is_global_zero:
            torch.save([p.grad.clone() for p in module.parameters() if p.grad is not None], sys.argv[3])

train(read_config(sys.argv[1]), sys.argv[2], [Gradients()])
"""


def test_two_processes_have_the_gradient_of_one(structures, tmp_path):
    gradients = []
    (tmp_path / "two.py").write_text(TWO, encoding="utf-8")
    for devices in (1, 2):
        chosen = config(
            structures,
            data={"batch_size": 6 // devices},
            trainer={"epochs": 1, "devices": devices},
            optimizer={"gradient_clip": None},
        )
        file = tmp_path / f"{devices}.yaml"
        file.write_text(chosen.to_yaml(), encoding="utf-8")
        out = tmp_path / f"{devices}.pt"
        command = [sys.executable, str(tmp_path / "two.py"), str(file), str(tmp_path / f"run{devices}"), str(out)]
        subprocess.run(command, check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
        gradients.append(torch.cat([g.flatten() for g in torch.load(out)]))
    one, two = gradients
    assert one.norm() > 0
    assert (one - two).norm() <= 1e-6 * one.norm()


def test_theta_is_strict_first_and_annealed_to_strict(structures, tmp_path):
    strict = train(config(structures, theta={"strict_epochs": 3}), tmp_path / "strict")
    free = train(config(structures), tmp_path / "free")
    annealed = train(config(structures, theta={"anneal": (1, 2)}), tmp_path / "annealed")
    norms = [[theta.norms()["1o"] for theta in pr.thetas(pr.load(path)).values()] for path in (strict, free, annealed)]
    assert not any(norms[0])
    assert all(norms[1])
    assert not any(norms[2])


def test_a_tensor_is_learnt(structures, tmp_path):
    frames = ase.io.read(structures, ":")
    for atoms in frames:
        atoms.info["dielectric_tensor"] = (2.0 * torch.eye(3).double().numpy() + atoms.get_stress(voigt=False)).tolist()
    ase.io.write(tmp_path / "t.extxyz", frames)
    chosen = Config(
        data={"train": str(tmp_path / "t.extxyz"), "validation": 0.25},
        model={"kind": "RelaxedTensor", "name": "dielectric_tensor", "cutoff": 4.0, "num_layers": 1},
        loss={"weights": {"dielectric_tensor": 1.0}},
        trainer={"epochs": 2, "accelerator": "cpu"},
    )
    model = pr.load(train(chosen, tmp_path / "run"))
    assert model.config["shift"][0] == pytest.approx(2.0 * 3**0.5, abs=0.1)


def test_a_config_from_the_command_line(structures, tmp_path, capsys):
    file = tmp_path / "new.yaml"
    for option in ([], ["--tensor"]):
        assert main(["new-config", str(file), *option]) == 0
        assert main(["train", str(file), "--out", str(tmp_path / "x"), "--dry-run"]) == 0
        file.unlink()
    assert not (tmp_path / "x").exists()
    assert main(["train", str(file), "--out", str(tmp_path / "x")]) == 2
    assert "new-config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.cutof=5", r"model\.cutof: unknown key: did you mean 'cutoff'\?"),
        ("modle=5", r"modle: unknown key: did you mean 'model'\?"),
        ("trainer.epochs=many", r"trainer\.epochs: .*integer.* \(got 'many'\)"),
        ("loss.weights.force=1", "did you mean 'forces'"),
        ("theta.anneal=[2, 300]", "ends at epoch 300"),
        ("trainer.epochs", "must be such as 'trainer.epochs=5'"),
        ("data.label_names.enrgy=dft_energy", r"data\.label_names: 'enrgy' is no label: did you mean 'energy'\?"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, override, message):
    file = tmp_path / "c.yaml"
    file.write_text("data: {train: a.extxyz}\n")
    with pytest.raises(ValueError, match=message):
        read_config(file, [override])


def test_what_is_left_empty_has_its_default(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data:\n  train: a.extxyz\n  label_names:\ntrainer:\n  # epochs: 5\n")
    assert read_config(file) == Config(data={"train": "a.extxyz"})


def test_labels_that_are_missing_are_counted(structures):
    with pytest.raises(ValueError, match="0 of 24 structures have 'dipole'"):
        train(config(structures, loss={"weights": {"dipole": 1.0}}), "never")


def test_an_element_that_the_model_will_not_know_is_named_before_training(structures, tmp_path):
    frames = ase.io.read(structures, ":")
    copper = [atoms for atoms in frames if "Au" not in atoms.symbols]
    ase.io.write(tmp_path / "copper.extxyz", copper)
    data = {"train": str(tmp_path / "copper.extxyz"), "validation": str(structures)}
    with pytest.raises(ValueError, match=r"validation: 12 of 24 structures hold Au, which no training .*frame 1\b"):
        train(config(structures, data=data), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"hold Cu, which 'model\.species' lacks"):
        train(config(structures, data=data, model={"species": ["Au"]}), tmp_path / "run")
    train(config(structures, data=data, model={"species": ["Cu", "Au"]}, trainer={"epochs": 1}), tmp_path / "run")


def test_checkpoints_hold_what_they_are_given(tmp_path):
    state = {
        "a": torch.arange(3),
        1: (None, 2.5, [True, "x"]),
        "deep": {"b": {0: torch.ones(2, 2)}},
        "inf": float("inf"),
    }
    io = SafetensorsCheckpoint()
    io.save_checkpoint(state, tmp_path / "c.safetensors")
    found = io.load_checkpoint(tmp_path / "c.safetensors")
    assert torch.equal(found["a"], state["a"])
    assert torch.equal(found["deep"]["b"][0], torch.ones(2, 2))
    assert (found[1], found["inf"]) == ((None, 2.5, [True, "x"]), float("inf"))
    with pytest.raises(TypeError, match="cannot hold a object"):
        io.save_checkpoint({"a": object()}, tmp_path / "d.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.safetensors"]


def test_errors_are_per_atom_and_in_their_units():
    batch = pr.data.AtomicData(z=torch.tensor([1, 1]), energy=torch.tensor([3.0]), forces=torch.full((2, 3), torch.nan))
    out = {"energy": torch.tensor([5.0]), "forces": torch.zeros(2, 3)}
    errors = Errors(["energy", "forces"])
    for name in errors.names:
        errors.add(name, residual(name, out, batch))
    assert errors.means() == {"energy": {"count": 1, "loss": 1.0, "mae": 1000.0, "rmse": 1000.0}}


def test_penalties_may_differ_by_irrep():
    layer = pr.nn.RelaxedLinear("1o+2e", "1o+2e", "0e+1o+2e")
    layer.theta.set_(torch.ones(9))
    optimizer = RelaxedAdam(layer, lr=1.0, penalty={"1o": 1e6})
    layer(torch.randn(4, 8)).square().sum().backward()
    optimizer.step()
    assert layer.theta.norms()["1o"] == 0
    assert layer.theta.norms()["2e"] > 0
    with pytest.raises(ValueError, match="names 3o, but theta has"):
        RelaxedAdam(layer, penalty={"3o": 1.0})


def test_what_breaks_counts_however_small_beside_the_scalar():
    torch.manual_seed(0)
    model = RelaxedPotential(["H"], 4.0, "0e+1o", irreps_hidden="4x0e+4x1o", num_layers=2)
    assert pr.theta_group(model) == pr.theta_group(RelaxedPotential(["H"], irreps_hidden="4x0e")) == "∞∞m"
    for theta in pr.thetas(model).values():
        theta.set_(torch.tensor([1.0, 0.0, 0.0, 1e-3]))
    assert pr.theta_group(model) == "∞m"
    next(iter(pr.thetas(model).values())).set_(torch.tensor([1.0, 1e-3, 0.0, 0.0]))
    assert pr.theta_group(model) == "m"  # of two polar vectors: the plane of both


def labelled(number, **info):
    """Molecules whose energy is that of their bond."""
    found = []
    for n in range(number):
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * n]], info=dict(info))
        atoms.calc = SinglePointCalculator(atoms, energy=0.1 * n, forces=[[0, 0, 1.0], [0, 0, -1.0]])
        found.append(atoms)
    return found


def test_it_ends_with_a_word_on_symmetry(structures, tmp_path, capsys):
    chosen = config(structures, trainer={"epochs": 2})
    found = read_header(train(chosen, tmp_path / "relaxed"))["provenance"]["symmetry"]
    *_, line = capsys.readouterr().out.splitlines()
    assert line == found["verdict"] == sentence(found)
    assert main(["info", str(tmp_path / "relaxed" / "model.safetensors")]) == 0
    assert line in capsys.readouterr().out
    assert line.startswith("Symmetry: broken" if found["is_broken"] else "Symmetry: not broken")
    train(config(structures, model={"irreps_theta": None}, trainer={"epochs": 1}), tmp_path / "strict")
    assert "Symmetry" not in capsys.readouterr().out


def test_annealed_it_is_the_annealed_model_that_is_kept_and_judged(structures, tmp_path, capsys):
    """The smallest loss is seldom that of the strict model: what was before theta had gone does not count."""
    chosen = config(structures, theta={"anneal": [1, 3]}, trainer={"epochs": 4, "patience": 1})
    path = train(chosen, tmp_path / "run")
    assert "Symmetry" not in capsys.readouterr().out  # the config chose, not the data
    parts = Parts(chosen)
    loss = loss_on(pr.load(path).eval(), parts.parts["validation"], chosen.loss, 3)
    assert read_header(path)["provenance"]["validation_loss"] == pytest.approx(loss, rel=1e-9)
    kept = SafetensorsCheckpoint().load_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors")
    assert kept["epoch"] >= 2


@pytest.mark.parametrize("push", [0.5, 0.0])
def test_the_verdict_knows_a_push_that_all_molecules_feel(tmp_path, push):
    """Springs in random directions, pulled apart along z or not."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(120):
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        length = rng.uniform(0.8, 1.0)
        atoms = Atoms("HO", [np.zeros(3), length * axis])
        force = -5 * (length - 0.9) * axis + [0, 0, push]
        energy = 2.5 * (length - 0.9) ** 2 - push * length * axis[2]
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=[-force, force])
        frames.append(atoms)
    ase.io.write(tmp_path / "train.extxyz", frames)
    chosen = Config(
        data={"train": str(tmp_path / "train.extxyz"), "validation": 0.25, "batch_size": 10},
        model={"cutoff": 2.0, "num_layers": 1, "irreps_hidden": "8x0e+8x1o", "lmax": 1, "irreps_theta": "0e+1o"},
        optimizer={"lr": 0.03},
        trainer={"epochs": 40, "accelerator": "cpu"},
    )
    found = read_header(train(chosen, tmp_path / "run"))["provenance"]["symmetry"]
    assert found["is_broken"] is (push != 0)
    if push:
        assert found["group"] == "∞m"
        assert found["strict_loss"] > 3 * found["loss"]


def test_a_verdict_names_what_is_left():
    found = {"group": "∞m", "is_broken": True, "probability": 0.01, "turns": 99, "structures": 40}
    text = sentence(found | {"loss": 0.5, "strict_loss": 6.0})
    assert text.startswith("Symmetry: broken, ∞m is left.")
    assert text.endswith("the loss is 12 times larger.")


def test_structures_without_a_field_are_named(tmp_path):
    frames = labelled(10, electric_field=[0.0, 0.0, 0.1])
    del frames[7].info["electric_field"]
    ase.io.write(tmp_path / "train.extxyz", frames)
    chosen = Config(data={"train": str(tmp_path / "train.extxyz")}, model={"fields": {"electric_field": "1o"}})
    with pytest.raises(ValueError, match=r"1 of \d structures have no 'electric_field', the first is .*frame 7"):
        train(chosen, tmp_path / "run")


def test_an_infinite_label_is_named(tmp_path):
    frames = labelled(4)
    frames[2].calc.results["energy"] = float("inf")
    ase.io.write(tmp_path / "train.extxyz", frames)
    with pytest.raises(ValueError, match=r"frame 2: 'energy' must be finite \(got inf\)"):
        train(Config(data={"train": str(tmp_path / "train.extxyz")}), tmp_path / "run")


def test_an_empty_part_is_told_in_the_words_of_the_config(structures, tmp_path):
    with pytest.raises(ValueError, match=r"'data.split' composition, 'data.validation' 0.25: .*'random' cuts anywhere"):
        train(config(structures, data={"split": "composition", "validation": 0.25}), tmp_path / "run")


def test_what_cannot_be_had_is_told_by_its_key(structures, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=r"'trainer.accelerator'"):
        train(config(structures, trainer={"accelerator": "gpu"}), tmp_path / "run")


def test_other_files_than_models_are_told_apart(structures, tmp_path):
    train(config(structures, trainer={"epochs": 1}), tmp_path / "run")
    with pytest.raises(ValueError, match="a checkpoint of a training"):
        pr.load(tmp_path / "run" / "checkpoints" / "last.safetensors")
    with pytest.raises(FileNotFoundError, match="it is a folder"):
        pr.load(tmp_path / "run")
    shutil.make_archive(str(tmp_path / "some"), "zip", tmp_path / "run", "logs")
    with pytest.raises(ValueError, match="an archive, maybe an exported model"):
        pr.load(tmp_path / "some.zip")
