import copy

import pytest
import torch

import pyg_relaxed as pr
from pyg_relaxed.datasets import shapes

HIDDEN = "4x0e+4x0o+4x1o+4x1e+4x2e+4x2o"


def cube_to_cube(make_optimizer, steps=40, freeze_scalar=False):
    """Train on a problem that breaks no symmetry of the cube; return the largest component that m-3m forbids."""
    data = shapes.deformation("cube")
    net = pr.models.RelaxedE3NN("0e", "0e+1o+2e", HIDDEN, irreps_theta=4, cutoff=1.8, num_neighbors=6)
    if freeze_scalar:
        for theta in pr.thetas(net).values():
            theta.freeze("0e")
    optimizer = make_optimizer(net)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (net(data) - data.y).square().sum()
        loss.backward()
        optimizer.step()
    forbidden = []
    for theta in pr.thetas(net).values():
        P = pr.o3.projector("m-3m", theta.irreps_theta).to(dtype=theta().dtype)
        forbidden.append((theta() - P @ theta()).abs().max().item())
    return max(forbidden)


@pytest.mark.parametrize("freeze_scalar", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_relaxed_adam_breaks_no_symmetry_by_itself(float64, dtype, bound, freeze_scalar):
    torch.set_default_dtype(dtype)
    assert cube_to_cube(lambda net: pr.optim.RelaxedAdam(net, lr=1e-2), freeze_scalar=freeze_scalar) < bound


@pytest.mark.filterwarnings("ignore:Adam divides")
def test_plain_adam_does(float64):
    assert cube_to_cube(lambda net: torch.optim.Adam(net.parameters(), lr=1e-2)) > 1e-2


def test_penalty_gives_exact_zeros(float64):
    linear = pr.nn.RelaxedLinear("1o", "1o", "0e+2e")
    linear.theta.set_(torch.tensor([1.0, 0.01, 0, 0, 0, 0]))
    optimizer = pr.optim.RelaxedAdam(linear, lr=1e-2, penalty=10.0)
    for _ in range(20):
        optimizer.zero_grad()
        linear(torch.eye(3)).square().sum().backward()
        optimizer.step()
    assert linear.theta.norms()["2e"] == 0


def one_step(model, optimizer):
    model(torch.eye(3)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_optimisers_that_break_symmetry_are_named(make):
    model = copy.deepcopy(pr.nn.RelaxedLinear("1o", "1o", "0e+2e"))
    optimizer = make(model.parameters())
    with pytest.warns(UserWarning, match=f"{make.__name__} divides each component of theta"):
        one_step(model, optimizer)
    one_step(model, optimizer)  # once is enough: a second warning would be an error here


def test_optimisers_that_do_not_are_left_alone():
    relaxed, strict = pr.nn.RelaxedLinear("1o", "1o", "0e+2e"), pr.nn.RelaxedLinear("1o", "1o")
    one_step(relaxed, torch.optim.SGD(relaxed.parameters()))
    one_step(relaxed, pr.optim.RelaxedAdam(relaxed))
    one_step(relaxed, torch.optim.Adam([p for p in relaxed.parameters() if p is not relaxed.theta.weight]))
    one_step(strict, torch.optim.Adam(strict.parameters()))


@pytest.mark.filterwarnings("ignore:Adam divides")
@pytest.mark.parametrize("make", [pr.optim.RelaxedAdam, pr.optim.RelaxedLBFGS, torch.optim.Adam])
def test_frozen_irreps_stay_under_every_optimiser(float64, make):
    linear = pr.nn.RelaxedLinear("1o+1e", "1o+1e", "0e+1e+2e")
    linear.theta.freeze(["0e", "2e"])
    before = linear.theta().detach().clone()
    optimizer = make(linear if make is not torch.optim.Adam else linear.parameters(), lr=1e-2)
    target = torch.randn(6, 6)

    def closure():
        optimizer.zero_grad()
        loss = (linear(torch.eye(6)) - target).square().sum()
        loss.backward()
        return loss

    first = closure().item()
    for _ in range(10):
        optimizer.step(closure)
    after = linear.theta()
    assert torch.equal(after[[0, 4, 5, 6, 7, 8]], before[[0, 4, 5, 6, 7, 8]])
    assert (after[1:4] - before[1:4]).abs().max() > 0
    if make is not pr.optim.RelaxedLBFGS:  # its line search must see the free directions alone
        assert linear.theta.weight.grad[0].abs() > 0
    assert closure().item() < first


def test_negative_penalty_is_refused():
    with pytest.raises(ValueError, match="'penalty' must not be negative"):
        pr.optim.RelaxedAdam(pr.nn.RelaxedLinear("1o", "1o", "0e+2e"), penalty=-1)
