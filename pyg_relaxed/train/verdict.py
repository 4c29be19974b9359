"""What a training says at its end: whether the structures held out break symmetry, by theta turned at random."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch_geometric.loader import DataLoader

from ..breaking import theta_group, turn_test
from ..datasets import AtomsDataset
from .config import LossConfig
from .losses import Errors, residual

NUM_TURNS: Final = 99
LEVEL: Final = 0.01  # how often a symmetry that nothing breaks may be reported as broken
NEEDED: Final = 1.1  # how many times larger the loss must be without theta: in many structures chance is seen, too
MOST: Final = 50  # structures: each turn evaluates all of them


def verdict(model: torch.nn.Module, dataset: AtomsDataset, config: LossConfig, batch_size: int) -> dict[str, Any]:
    """Return whether theta breaks a symmetry that the structures need to be broken, and the numbers it rests on.

    Args:
        model: A trained model; on the CPU.
        dataset: Structures held out, of which at most the first 50 are taken.
        config: The loss that theta has to improve.
        batch_size: Structures at a time.
    """
    model.eval()
    held_out = dataset.index_select(range(min(MOST, len(dataset))))
    found = turn_test(model, lambda turned: loss_on(turned, held_out, config, batch_size), NUM_TURNS)
    numbers = {
        "group": theta_group(model),
        "is_broken": found.probability <= LEVEL and found.strict > NEEDED * found.error,
        "probability": found.probability,
        "turns": len(found.turned),
        "structures": len(held_out),
        "loss": found.error,
        "strict_loss": found.strict,
    }
    return numbers | {"verdict": sentence(numbers)}


def sentence(found: dict[str, Any]) -> str:
    """Return a verdict in words.

    Example:
        >>> sentence({"group": "∞m", "is_broken": False, "probability": 0.34, "turns": 99})
        'Symmetry: not broken. Theta turned at random is as good (p = 0.34).'
    """
    if found["group"] == "∞∞m":
        return "Symmetry: not broken. Theta is a scalar."
    if found["turns"] == 1:
        as_good = "not " if found["probability"] < 1 else ""
        return (
            f"Symmetry: undecided. Theta is a pseudoscalar; mirrored it is {as_good}as good, but one turn is no test. "
            f"Without it the loss is {found['strict_loss'] / found['loss']:.3g} times larger."
        )
    if found["probability"] > LEVEL:
        return f"Symmetry: not broken. Theta turned at random is as good (p = {found['probability']:.2g})."
    if not found["is_broken"]:
        return "Symmetry: not broken. Without theta the loss is hardly larger."
    return (
        f"Symmetry: broken, {found['group']} is left. None of {found['turns']} random turns of theta is as good on "
        f"{found['structures']} structures held out; without it the loss is {found['strict_loss'] / found['loss']:.3g} "
        "times larger."
    )


def loss_on(model: torch.nn.Module, dataset: AtomsDataset, config: LossConfig, batch_size: int) -> float:
    """Return the loss of a model on all structures of a data set.

    Args:
        model: It returns a dictionary.
        dataset: Structures with labels.
        config: The loss.
        batch_size: Structures at a time.
    """
    errors = Errors(list(config.weights), config.function, config.delta)
    for batch in DataLoader(dataset, batch_size=batch_size):
        out = model(batch)
        for name in config.weights:
            errors.add(name, residual(name, out, batch))
    return sum(config.weights[name] * mean["loss"] for name, mean in errors.means().items())
