import logging

import pytest
import torch

from pyg_relaxed.kernels import TensorProductConv, backends

SPEC = TensorProductConv("8x0e+8x1o", "0e+1o", lmax=1).table.spec


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    backends._choose.cache_clear()
    monkeypatch.setattr(backends, "_warned", set())
    yield
    backends._choose.cache_clear()


@pytest.mark.parametrize("backend", backends.PREFERENCE["cuda"])
def test_a_backend_for_a_gpu_says_why_it_does_not_run_on_a_cpu(backend):
    op = TensorProductConv("8x0e", "0e", lmax=0, backend=backend)
    with pytest.raises(RuntimeError, match=f"'{backend}' cannot run: it takes float32 and float64 on cuda"):
        op(torch.randn(1, 8), torch.randn(1, 1), torch.randn(1, 8), torch.zeros(2, 1, dtype=torch.long))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, package in [("triton", "triton"), ("cuequivariance", "cuequivariance_torch"), ("openequivariance",) * 2]:
        assert backends._why_not(name, SPEC, "cuda", torch.float32) == f"the package {package} is not installed"


def test_triton_needs_a_c_compiler(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert "no C compiler" in backends._why_not("triton", SPEC, "cuda", torch.float32)


def test_a_gpu_without_packages_warns_once_and_runs_plain_torch(monkeypatch, caplog):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert backends.choose("auto", SPEC, "cuda", torch.float32) == "torch"
        assert backends.choose("auto", SPEC.replace("8x0e+8x1o", "7x0e+8x1o"), "cuda", torch.float32) == "torch"
    (record,) = caplog.records
    assert "pip install pyg-relaxed[gpu]" in record.getMessage()


def test_the_first_that_can_run_is_chosen(monkeypatch):
    monkeypatch.setattr(backends, "_why_not", lambda name, *_: "no" if name == "triton" else None)
    assert backends.choose("auto", SPEC, "cuda", torch.float32) == "cuequivariance"
    assert backends.choose("auto", SPEC, "meta", torch.float32) == "torch"


def test_an_unknown_backend_is_explained():
    with pytest.raises(ValueError, match="'backend' must be one of auto, torch, cpu, triton"):
        TensorProductConv("1o", "1o", lmax=1, backend="fast")
