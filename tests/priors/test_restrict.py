"""The prior of a part of the weights: the density of that part, by the whole prior's parts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import scipy.stats
import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params
from novacula.priors import Gaussian, Laplace, Prior, StudentT
from novacula.priors.restrict import restricted

LOGS = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64)
W: Params = {
    k: torch.randn(s, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    for i, (k, s) in enumerate({"a": (3, 2), "b": (3,), "c": (2, 4)}.items())
}


@dataclass(frozen=True, eq=False)
class Own(Prior):
    """A logistic prior, or a Gaussian one with a precision for each weight: with the defaults of `Prior`."""

    each: Tensor = field(default_factory=lambda: torch.ones(()))
    gaussian: bool = False  # type: ignore[misc]

    def log_prob(self, params: Params) -> Tensor:
        return torch.stack([(-w - 2 * torch.nn.functional.softplus(-w)).sum() for w in params.values()]).sum()

    def precision(self, params: Params) -> Params:
        return dict.fromkeys(params, self.each)

    def sample(self, params: Params, n: int, rng: torch.Generator) -> Params:
        raise NotImplementedError


@pytest.mark.parametrize("per", ["tensor", "all"])
@pytest.mark.parametrize("kind", [Laplace, StudentT])
def test_a_part_has_the_scales_of_its_tensors(kind: type[Laplace] | type[StudentT], per: str) -> None:
    logs = LOGS if per == "tensor" else LOGS[1]
    prior = kind(log_scale=logs, per=per).bind(W)  # type: ignore[arg-type]
    part = restricted(prior, W, {"c": "last", "a": "first"})
    # Some of the entries of c, in another shape.
    some = {"last": W["c"].flatten()[[1, 5, 6]], "first": W["a"]}
    scales = {"last": LOGS[2], "first": LOGS[0]} if per == "tensor" else dict.fromkeys(some, LOGS[1])
    want = 0.0
    for k, w in some.items():
        scale = math.exp(float(scales[k]))
        law = scipy.stats.laplace(scale=scale) if kind is Laplace else scipy.stats.t(StudentT().df, scale=scale)
        want += law.logpdf(w.numpy()).sum()
    assert float(part.log_prob(some)) == pytest.approx(want, rel=1e-12)


def test_what_has_no_part_is_refused() -> None:
    with pytest.raises(InputError, match=r"FanIn, Laplace or StudentT prior; got Own\. Try: .* a restrict"):
        restricted(Own(), W, {"a": "a"})
    with pytest.raises(InputError, match=r"one precision for all of b; got 3\. Try: give each tensor one"):
        restricted(Own(torch.tensor([1.0, 2.0, 3.0]), gaussian=True), W, {"b": "b"})
    assert isinstance(restricted(Own(torch.tensor(2.0), gaussian=True), W, {"b": "b"}), Gaussian)


def test_what_has_no_temperature_is_refused() -> None:
    with pytest.raises(InputError, match=r"at temperatures other than 1; got Own. Try: use temperature=1.0"):
        Own().log_partition(W, 0.5)
