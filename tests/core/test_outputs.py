"""What people's networks give besides plain logits: each a right number, or an error that says what to change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import novacula as nv
from novacula.core.modules.outputs import logits_of, squashed


class Ends(nn.Module):
    """A linear layer, what stands behind it, and perhaps what stands before."""

    def __init__(self, outputs: int, end: Callable[[Tensor], Tensor], first: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.body, self.layer = nn.Linear(3, 4), nn.Linear(4, outputs)
        self.end, self.first = end, first

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x).tanh() if self.first is None else self.first(self.body(x).tanh())
        return self.end(self.layer(h))


def _data(task: str = "classification", dtype: torch.dtype = torch.float64) -> nv.Data:
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return nv.Data(x, (x[:, 0] > 0).long() if task == "classification" else x[:, :1] - 2 * x[:, 1:2])


ENDS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "softmax": (lambda f: f.softmax(-1), "softmax"),
    "softmax, selected": (lambda f: f[None].softmax(-1)[0], "softmax"),
    "softmax, in another dtype": (lambda f: f.softmax(-1).to(torch.float64), "softmax"),
    "softmax, written out": (lambda f: f.exp() / f.exp().sum(-1, keepdim=True), "normalisation"),
    "sigmoid": (lambda f: f.sigmoid(), "sigmoid"),
    "sigmoid, squeezed": (lambda f: f[:, :1].sigmoid().squeeze(1), "sigmoid"),
    "logits": (lambda f: f, ""),
    "log_softmax": (lambda f: f.log_softmax(-1), ""),
    "a gate": (lambda f: f * f.sigmoid(), ""),
    "logits of a softmax": (lambda f: f.softmax(-1).log(), ""),
}


@pytest.mark.parametrize("name", ENDS)
def test_probabilities_are_told_from_logits(name: str) -> None:
    end, kind = ENDS[name]
    net = Ends(2, end).double()
    assert squashed(logits_of(net(_data().x))) == kind
    if name == "sigmoid, squeezed":
        return  # one output for two classes is refused by itself
    if not kind:
        nv.Target(net).prepare(_data())
        return
    with pytest.raises(nv.InputError, match=f"probabilities already, by a {kind}"):
        nv.Target(net).prepare(_data())


def test_a_regression_may_end_in_a_sigmoid_and_labels_may_not() -> None:
    net, x = Ends(1, torch.sigmoid).double(), _data().x
    nv.Target(net, likelihood=nv.Normal()).prepare(_data("regression"))
    with pytest.raises(nv.InputError, match="by a sigmoid"):
        nv.Target(net, likelihood=nv.Bernoulli()).prepare(nv.Data(x, (x[:, :1] > 0).long(), task="multilabel"))


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "last_layer"])
def test_one_measurement_may_come_without_an_axis(structure: str) -> None:
    found = []
    for end in (lambda f: f.squeeze(1), lambda f: f):
        torch.manual_seed(0)
        target, data = nv.Target(Ends(1, end).double(), likelihood=nv.Normal()).prepare(_data("regression"))
        post = nv.inference.laplace_posterior(target, target.params(), data, structure=structure)
        found.append(nv.predict(post, data.x).interval(0.9))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::novacula.core.errors.NovaculaWarning")
@pytest.mark.parametrize("structure", ["exact", "kron", "diag", "matrix_free"])
def test_what_lets_no_gradient_through_is_constant(structure: str) -> None:
    def cut(h: Tensor) -> Tensor:
        return h.detach()

    def shut(h: Tensor) -> Tensor:
        with torch.inference_mode():
            inside = h * 1
        return inside.clone()

    found = []
    for first in (cut, shut):
        torch.manual_seed(0)
        target, data = nv.Target(Ends(2, lambda f: f, first).double()).prepare(_data())
        found.append(float(nv.evidence.Laplace(structure)(target, data, target.params(), seed=0).value))
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_dtypes_that_differ_are_named() -> None:
    with pytest.raises(nv.InputError, match="trainable weights of one dtype") as error:
        nv.Target(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2).double()))
    assert "float()" in error.value.hint
    for net, hint in ((nn.Linear(3, 2), "float()"), (nn.Linear(3, 2).bfloat16(), "float()")):
        with pytest.raises(nv.InputError, match="dtype") as error:
            nv.Target(net).prepare(_data())
        assert hint in error.value.hint
        assert str(next(net.parameters()).dtype) in error.value.hint


def test_a_frozen_body_in_half_precision_is_judged_by_its_own_rounding() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(3, 256).bfloat16().requires_grad_(False), nn.Linear(256, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x.bfloat16()).tanh().float())

    with pytest.warns(nv.NovaculaWarning, match="held constant"):
        target = nv.Target(Half())
    target.prepare(_data(dtype=torch.float32))


def test_wrappers_that_spread_batches_are_taken_off() -> None:
    torch.manual_seed(0)
    net, data = nn.Linear(3, 2).double(), _data()
    wrapped = nv.Target(nn.Sequential(nn.DataParallel(net))).prepare(data)[0]
    torch.testing.assert_close(wrapped.forward(wrapped.params(), data.x), net(data.x))
