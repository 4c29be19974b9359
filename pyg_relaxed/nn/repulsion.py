"""The repulsion of bare nuclei, which no data set of stable structures teaches."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..o3.constants import ExactConstants
from .radial import polynomial_envelope

COULOMB = 14.3996454784255  # e^2 / (4 pi eps0), eV Å (CODATA 2018)
BOHR = 0.529177210903  # Å
# Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Solids (1985), eq. 2-60: their universal screening.
AMPLITUDES = (0.18175, 0.50986, 0.28022, 0.02817)
DECAYS = (3.19980, 0.94229, 0.40290, 0.20162)


class PairRepulsion(ExactConstants):
    r"""The screened Coulomb repulsion of Ziegler, Biersack and Littmark, ending where two atoms touch.

    .. math::
        V_{ij} = \frac{e^2}{4 \pi \epsilon_0} \frac{Z_i Z_j}{r} \phi(r / a_{ij})\, u(r / R_{ij}), \qquad
        a_{ij} = \frac{0.8854\, a_0}{Z_i^{0.23} + Z_j^{0.23}}

    :math:`\phi` is the universal screening function and :math:`a` its length (*The Stopping and Range of Ions in
    Solids*, 1985, eqs. 2-60 and 2-61); the envelope :math:`u` of arXiv 2003.03123, eq. 8, takes it to zero at the
    distance :math:`R_{ij}`, the sum of the covalent radii or the cutoff where that is less, so that single bonds are
    left to the network, and energy and forces go to zero before the edges end. Multiple bonds are shorter: at that of
    N2 it is 2.65 eV and 28 eV/Å, which the network has to learn away.

    Args:
        species (sequence of int): Atomic numbers.
        radii (sequence of float): Covalent radius of each, Å.
        cutoff (float, optional): Up to which there are edges, Å. (default: no bound)

    Shapes:
        - **input:** lengths ``[E]`` in Å, index into ``species`` of each atom ``[N]``, edge indices ``[2, E]``, both
          directions
        - **output:** energy of each atom, ``[N]``, eV: half of each of its pairs

    Example::

        >>> repulsion = PairRepulsion([1, 8], [0.31, 0.66])
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> repulsion(torch.tensor([0.5, 0.5]), torch.tensor([0, 1]), edge_index).round(decimals=3)
        tensor([13.8390, 13.8390])
        >>> repulsion(torch.tensor([0.97, 0.97]), torch.tensor([0, 1]), edge_index)
        tensor([0., 0.])
    """

    charges: Tensor
    radii: Tensor
    amplitudes: Tensor
    decays: Tensor

    def __init__(self, species: Sequence[int], radii: Sequence[float], cutoff: float = math.inf) -> None:
        super().__init__()
        if len(species) != len(radii):
            raise ValueError(f"'radii' has {len(radii)} entries for {len(species)} species: give one for each")
        self.cutoff = float(cutoff)
        self.register_constant("charges", torch.tensor(species, dtype=torch.float64))
        self.register_constant("radii", torch.tensor(radii, dtype=torch.float64))
        self.register_constant("amplitudes", torch.tensor(AMPLITUDES, dtype=torch.float64))
        self.register_constant("decays", torch.tensor(DECAYS, dtype=torch.float64))

    def forward(self, length: Tensor, species: Tensor, edge_index: Tensor) -> Tensor:
        """Return the energy of each atom."""
        first, second = species[edge_index]
        Z, powers = self.charges, self.charges**0.23
        screening = 0.8854 * BOHR / (powers[first] + powers[second])
        phi = torch.exp(-(length / screening).unsqueeze(1) * self.decays) @ self.amplitudes
        reach = (self.radii[first] + self.radii[second]).clamp(max=self.cutoff)
        energy = 0.5 * COULOMB * Z[first] * Z[second] / length * phi * polynomial_envelope(length / reach, 1.0)
        return energy.new_zeros(len(species)).index_add(0, edge_index[1], energy)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(Z={[int(z) for z in self.charges.tolist()]})"
