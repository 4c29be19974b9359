"""Structures in random axes, and the model along with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform

from ..data import rotate
from ..o3 import representation
from ..surgery import rotate_, thetas


class RandomRotation(BaseTransform):
    r"""Turn a graph, or a whole batch, by one random element of O(3), with forces, stress and all other tensors.

    Elements are drawn uniformly (Haar measure). The element is kept as ``info_rotation`` ``[1, 3, 3]``:
    :math:`x' = R x`; applied again it is the product.

    Random rotation as augmentation is refused for a model that breaks symmetry, unless its theta turns along: what it
    learns belongs to one set of axes, and in random ones there is nothing left to find. So name the model: then calling
    the transform raises as long as some theta is not scalar, while ``with rotation.applied(data) as turned:`` turns the
    model along, :math:`f_{D(R) \theta}(R x) = D(R) f_\theta(x)`, and turns it back, with the gradients of theta.

    Args:
        model (torch.nn.Module, optional): The model that will see the turned graphs. (default: :obj:`None`)
        improper (bool, optional): Whether to draw mirrors and inversions too. (default: :obj:`True`)
        generator (torch.Generator, optional): Source of the rotations; see :class:`PositionNoise`.
            (default: :obj:`None`)

    Example::

        >>> import pyg_relaxed as pr
        >>> data = Data(pos=torch.tensor([[0.0, 0.0, 1.0]]))
        >>> layer = pr.nn.RelaxedLinear("1o", "1o", "0e+1e")
        >>> rotation = RandomRotation(model=layer)
        >>> turned = rotation(data)  # theta is scalar yet
        >>> _ = layer.theta.set_(torch.tensor([1.0, 0.0, 0.0, 0.5]))
        >>> with rotation.applied(data) as turned:
        ...     y = layer(turned.pos)
        >>> torch.allclose(y, layer(data.pos) @ turned.info_rotation[0].T, atol=1e-6)
        True
    """

    def __init__(
        self, model: torch.nn.Module | None = None, improper: bool = True, generator: torch.Generator | None = None
    ) -> None:
        self.model, self.improper, self.generator = model, bool(improper), generator

    def forward(self, data: Data) -> Data:
        """Return the turned graph or batch.

        Raises:
            ValueError: If the model breaks symmetry, or is a copy in a worker of a ``DataLoader``.
        """
        if self.model is not None:
            self._check_worker()
            norms = [norm for theta in thetas(self.model).values() for norm in theta.norms().items()]
            broken = sorted({irrep for irrep, norm in norms if irrep != "0e" and norm > 0})
            if broken:
                raise ValueError(
                    f"{type(self.model).__name__} breaks symmetry (theta in {', '.join(broken)}), so in random axes it "
                    "would learn from contradictions: turn its theta along, `with rotation.applied(data) as turned:`, "
                    "make it strict with pyg_relaxed.strict_(model), or leave the axes alone"
                )
        return self._turned(data, self._draw())

    @contextmanager
    def applied(self, data: Data) -> Iterator[Data]:
        """Turn a graph or a batch, and the model along; on leaving, the model turns back.

        Call ``backward()`` inside, so that it sees the turned theta, and the optimiser's ``step()`` outside, where
        gradients of theta are in the model's own axes again.

        Args:
            data (Data): A graph or a batch of graphs; it is not changed.

        Raises:
            ValueError: Without a model, or if it is a copy in a worker of a ``DataLoader``.
        """
        if self.model is None:
            raise ValueError("there is no model to turn along: RandomRotation(model=model), or call rotation(data)")
        self._check_worker()
        R = self._draw()
        turned = self._turned(data, R)
        relaxed = list(thetas(self.model).values())
        own = [{name: value.clone() for name, value in theta.state_dict().items()} for theta in relaxed]
        rotate_(self.model, R)
        self._rotate_gradients(R)
        there = [theta.weight.detach().clone() for theta in relaxed]
        try:
            yield turned
        finally:
            for theta, state, weight in zip(relaxed, own, there, strict=True):
                # Turning back rounds, which would fill exact zeros: where nothing has changed the old bits return.
                if torch.equal(theta.weight, weight):
                    theta.load_state_dict(state)
                else:
                    theta.rotate_(R.T)
            self._rotate_gradients(R.T)

    def _draw(self) -> Tensor:
        """Return a random element of O(3), or SO(3), in float64."""
        device = torch.device("cpu") if self.generator is None else self.generator.device
        Q, upper = torch.linalg.qr(
            torch.randn(3, 3, generator=self.generator, dtype=torch.float64, device=device).cpu()
        )
        Q = Q * upper.diagonal().sign()  # without it the distribution is not uniform (Mezzadri, math-ph/0609050)
        return Q if self.improper else Q * torch.linalg.det(Q).sign()

    def _turned(self, data: Data, R: Tensor) -> Data:
        if isinstance(data, Batch):
            return Batch.from_data_list([self._turned(graph, R) for graph in data.to_data_list()])
        turned = rotate(data, R)
        matrix = R.to(data.pos)
        turned.info_rotation = matrix @ data.info_rotation if "info_rotation" in data else matrix[None]
        return turned

    @torch.no_grad()
    def _rotate_gradients(self, R: Tensor) -> None:
        for theta in thetas(self.model).values() if self.model is not None else ():
            grad = theta.weight.grad
            if grad is not None:
                theta.weight.grad = representation(theta.irreps_theta, R).to(grad) @ grad

    def _check_worker(self) -> None:
        if get_worker_info() is not None:
            raise ValueError(
                "the model of RandomRotation is a copy in a worker of a DataLoader, and the one that trains would not "
                "turn: apply the rotation to batches in the training loop, or use num_workers=0"
            )

    def __repr__(self) -> str:
        model = "" if self.model is None else f"model={type(self.model).__name__}, "
        return f"{self.__class__.__name__}({model}improper={self.improper})"
