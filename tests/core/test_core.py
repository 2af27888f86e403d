"""Weights as dictionaries, streams of randomness, networks as functions, estimates."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from novacula.core import params as pt
from novacula.core.errors import InputError, NonFiniteError, NovaculaWarning
from novacula.core.estimate import Estimate
from novacula.core.forward import Forward
from novacula.core.rng import derive, generator


def weights() -> pt.Params:
    rng = torch.Generator().manual_seed(1)
    return {
        "a": torch.randn(3, 2, generator=rng),
        "b": torch.randn(4, generator=rng),
        "c": torch.randn((), generator=rng),
    }


def test_flatten_and_unflatten_are_inverse_with_batch_axes() -> None:
    w = weights()
    stacked = pt.stack([w, {k: 2 * v for k, v in w.items()}])
    flat = pt.flatten(stacked, batch_dims=1)
    assert flat.shape == (2, pt.count(w)) == (2, 11)
    back = pt.unflatten(flat, w)
    assert all(torch.equal(back[k], stacked[k]) for k in w)
    assert torch.equal(pt.flatten(pt.unstack(stacked)[1]), 2 * pt.flatten(w))


def test_algebra_agrees_with_vectors() -> None:
    a, b = weights(), {k: v + 1 for k, v in weights().items()}
    assert torch.allclose(pt.dot(a, b), pt.flatten(a) @ pt.flatten(b))
    assert torch.allclose(pt.flatten(pt.add(a, b, scale=-0.5)), pt.flatten(a) - 0.5 * pt.flatten(b))


def test_unflatten_refuses_other_lengths() -> None:
    with pytest.raises(InputError, match="11 weights"):
        pt.unflatten(torch.zeros(12), weights())


def test_streams_depend_on_every_key_and_on_nothing_else() -> None:
    seeds = {derive(s, *k) for s in (0, 1) for k in (("a",), ("a", 1), ("a", "1", 2), ("b",), ())}
    assert len(seeds) == 10
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = torch.rand(3, generator=generator(5, "x", 2))
    assert torch.equal(first, torch.rand(3, generator=generator(5, "x", 2)))
    assert torch.equal(before, torch.get_rng_state())
    # A separator inside a key must not make it equal to two keys.
    assert derive(0, "a1", "2") != derive(0, "a", "12")


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(NonFiniteError("a", "b", "c")))
    assert isinstance(error, NonFiniteError)
    assert str(error) == "expected a; got b. Try: c"


def test_forward_leaves_the_module_and_the_global_generator_alone() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    f = Forward(net)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert f.check(x) == 2
    w = {k: 3 * v for k, v in f.params().items()}
    assert not torch.equal(f(w, x), net(x))
    assert torch.equal(f(f.params(), x), net(x))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training
    assert torch.equal(state, torch.get_rng_state())


def test_average_is_the_mean_over_copies() -> None:
    f = Forward(nn.Linear(3, 2).double())
    xs = torch.randn(5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([f(f.params(), xs[:, s]) for s in range(4)]).mean(0)
    assert torch.allclose(f.average(f.params(), xs), expected, atol=1e-14)


def test_tied_weights_are_one_weight() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    f = Forward(Tied())
    w = f.params()
    assert list(w) == ["a.weight"]
    x = torch.randn(2, 3)
    assert torch.allclose(f({"a.weight": 2 * w["a.weight"]}, x), 4 * f(w, x), atol=1e-6)


class Bad(nn.Module):
    """A network with a choice of faults."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.linear, self.fault = nn.Linear(3, 2), fault

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        f = self.linear(x)
        match self.fault:
            case "nan":
                return f * float("nan")
            case "random":
                return f + torch.rand(())
            case "shape":
                return f[..., None]
            case "tuple":
                return (f, f)  # type: ignore[return-value]
            case _:
                raise RuntimeError("broken inside")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "finite network outputs"),
        ("random", "deterministic"),
        ("shape", r"shape \(4, C\)"),
        ("tuple", "tuple"),
        ("raise", "broken inside"),
    ],
)
def test_faulty_networks_are_refused(fault: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Forward(Bad(fault)).check(torch.ones(4, 3))


def test_networks_without_weights_are_refused() -> None:
    with pytest.raises(InputError, match="without parameters"):
        Forward(nn.Flatten())
    with pytest.raises(InputError, match="all frozen"):
        Forward(nn.Linear(2, 2).requires_grad_(False))
    with pytest.raises(InputError, match=r"nn\.Module"):
        Forward(torch.zeros(3))  # type: ignore[arg-type]


def test_frozen_weights_stay_constant_and_are_named() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    with pytest.warns(NovaculaWarning, match=r"0\.weight, 0\.bias"):
        f = Forward(net)
    assert list(f.params()) == ["1.weight", "1.bias"]
    assert f.frozen == ("0.weight", "0.bias")


def estimate(value: float, **changes: object) -> Estimate:
    fields: dict[str, object] = {
        "stderr": 0.3,
        "kind": "estimate",
        "estimator": "Laplace(kron)",
        "n": 10,
        "fingerprint": "f",
        "loss": "categorical",
    }
    return Estimate(torch.tensor(value), **(fields | changes))  # type: ignore[arg-type]


def test_estimates_subtract_with_their_errors() -> None:
    difference = estimate(-3.0) - estimate(-5.0, stderr=0.4)
    assert float(difference) == pytest.approx(2.0)
    assert difference.stderr == pytest.approx(0.5)
    assert difference.per_example == pytest.approx(0.2)
    assert (estimate(1.0, kind="exact") - estimate(0.0, kind="exact")).kind == "exact"


def test_estimates_show_their_error() -> None:
    shown = repr(estimate(-3.25, stderr=0.125, estimator="Laplace(kron)", kind="estimate"))
    assert shown == "Estimate(-3.25 ± 0.12 nat, estimate, Laplace(kron), N=10)"


@pytest.mark.parametrize(
    "change", [{"estimator": "Laplace(exact)"}, {"fingerprint": "g"}, {"loss": "normal"}, {"temperature": 0.5}]
)
def test_estimates_of_other_things_do_not_compare(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        estimate(1.0) - estimate(2.0, **change)


def test_estimates_become_plain_json() -> None:
    import json

    found = json.loads(json.dumps(estimate(-3.0, warnings=("w",)).to_dict()))
    assert found["value"] == -3.0
    assert found["per_example"] == pytest.approx(-0.3)
    assert found["warnings"] == ["w"]
