import pytest
import torch


@pytest.fixture
def float64():
    """Run a test in float64, with a seed, and give the default dtype back."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)
