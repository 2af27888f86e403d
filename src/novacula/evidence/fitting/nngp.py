"""The evidence of the infinitely wide network: its outputs are a Gaussian process, whose kernel the prior gives.

Of classes, the probability that the network has zero training error is that of a Gaussian orthant: for each example,
the outputs of all other classes must be below that of its own, which are ``N (C − 1)`` Gaussian differences above zero.
Of measurements with Gaussian noise it is the density of the labels, exactly,

    log p(y) = −½ Σ_c [y_cᵀ (K + σ_c² I)⁻¹ y_c + log |K + σ_c² I| + N log 2π].

A multilayer perceptron of ReLUs or error functions under a Gaussian prior has its kernel by recursion. That of any
other network is estimated by drawing networks, as wide as they are: then the value is one of a Gaussian process with
the same covariance, and its error the spread between independent kernels.

References:
    Deep neural networks as Gaussian processes. J. Lee et al., 2018. arXiv:1711.00165.
    Is SGD a Bayesian sampler? Well, almost. C. Mingard, G. Valle-Pérez, J. Skalse, A. A. Louis, 2021. arXiv:2006.15191.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.checks.numbers import check_fields, check_whole
from novacula.core.errors import InputError
from novacula.core.estimate import Estimate
from novacula.core.params import Params
from novacula.core.rng import derive
from novacula.data.data import Data
from novacula.evidence.common import make_estimate
from novacula.evidence.fitting.estimate import fit_estimate
from novacula.evidence.start import bound
from novacula.kernels.invariant import Kernel
from novacula.kernels.monte_carlo import monte_carlo
from novacula.kernels.orthants.orthant import OrthantMethod, orthant
from novacula.kernels.perceptron import perceptron_kernel
from novacula.posteriors.base import Posterior
from novacula.target import Target
from novacula.target.margins import check_fittable

_KERNELS = 4  # independent Monte-Carlo kernels, whose spread is the error
_JITTER = 1e-8  # of the mean variance


@dataclass(frozen=True)
class NNGP:
    """The log evidence of the Gaussian process that an infinitely wide network is.

    Args:
        method: Of classes: ``"tilting"``, unbiased and with an error of its own; ``"ep"``, faster.
        draws: Networks that a Monte-Carlo kernel takes, where there is no recursion; more than ``N · C``.
        samples: Draws of ``"tilting"``.
        kernel: A kernel in the place of the network's, of each output alike and independent of the others': a control
            that is no network. Of the target, only outputs and likelihood then play a part.

    Raises:
        InputError: If a number is outside its range.

    Example:
        >>> NNGP().name
        'NNGP(tilting)'
    """

    method: OrthantMethod = "tilting"
    draws: int = 4_000
    samples: int = 10_000
    kernel: Kernel | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_whole("draws", self.draws)
        check_whole("samples", self.samples, least=2)
        if self.method not in ("tilting", "ep"):
            raise InputError("method='tilting' or 'ep'", repr(self.method), "leave it out for 'tilting'")

    @property
    def name(self) -> str:
        """The estimator's name, under which values compare."""
        return f"NNGP({self.method})" if self.kernel is None else f"GP({self.method}, {self.kernel})"

    def __call__(self, target: Target, data: Data, start: Params | Posterior | None = None, *, seed: int) -> Estimate:
        """Compute the log evidence; in nats."""
        target, data = bound(target, data)
        if target.averaged is not None or target.temperature != 1.0:
            got = "an invariance that is averaged over" if target.averaged is not None else "another temperature"
            raise InputError("a plain network at temperature 1", got, "leave it out of the target")
        kernels, said = self._kernels(target, data, seed)
        if target.likelihood.quadratic:
            values = [_regression(k, data.y, target) for k in kernels]
            exact = len(kernels) == 1
            kind = "exact" if exact else "estimate"
            return make_estimate(target, data, values, kind=kind, estimator=self.name, assumptions=said)
        check_fittable(target, data)
        found = [self._classes(k, data, derive(seed, "orthant", i)) for i, k in enumerate(kernels)]
        values = torch.stack([e.value for e in found])
        error = found[0].stderr
        if len(found) > 1:  # the spread between kernels holds that of the draws of each
            error = float(values.std()) / math.sqrt(len(found))
        return fit_estimate(
            target,
            data,
            values.mean(),
            kind="estimate",
            estimator=self.name,
            stderr=error,
            assumptions=(*said, *found[0].assumptions),
            warnings=tuple(dict.fromkeys(w for e in found for w in e.warnings)),
            parts=found[0].parts if len(found) == 1 else {},
        )

    def _kernels(self, target: Target, data: Data, seed: int) -> tuple[list[Tensor], tuple[str, ...]]:
        # ``(N, C, N, C)`` each.
        if self.kernel is not None:
            x, c = data.x.double(), int(target.forward(target.params(), data.x[:1]).shape[1])
            return [_alike(self.kernel(x, x).detach(), c)], ("a Gaussian process of the given kernel",)
        return wide_kernels(target, data.x, _KERNELS, self.draws, seed=seed)

    def _classes(self, kernel: Tensor, data: Data, seed: int) -> Estimate:
        n, c = kernel.shape[:2]
        if data.y.ndim == 2:
            signs = (2 * data.y.double() - 1).flatten()
            rows = torch.diag(signs)
        else:
            # Row (n, d): own class less class d.
            own = torch.nn.functional.one_hot(data.y, c).double()
            rows = torch.block_diag(*[(own[i] - torch.eye(c, dtype=torch.float64))[own[i] == 0] for i in range(n)])
        k = rows @ kernel.reshape(n * c, n * c) @ rows.T
        k = k + _JITTER * k.diagonal().mean() * torch.eye(len(k), dtype=k.dtype)
        return orthant(k, torch.ones(len(k)), method=self.method, seed=seed, draws=self.samples)


def wide_kernels(
    target: Target, x: Tensor, kernels: int, draws: int, *, seed: int
) -> tuple[list[Tensor], tuple[str, ...]]:
    """Covariances ``(N, C, N, C)`` of a network's outputs as it widens, and what is assumed in them."""
    # The recursion's where it covers the network; else independent ones, each of so many drawn networks.
    wide = "infinite width: the network of finite width differs by terms of the order of one over it"
    f, like = target.forward, target.params()
    if target.prior.gaussian and target.prior.centre(like) is None and not f.units.y_sd.numel():
        known = perceptron_kernel(f.module, {k: v.detach() for k, v in target.prior.precision(like).items()}, x)
        if known is not None:
            return [_alike(known, int(f(like, x[:1]).shape[1]))], (wide,)
    found = [monte_carlo(f, target.prior, x, draws=draws, seed=derive(seed, "kernel", i)) for i in range(kernels)]
    size = found[0].shape[0] * found[0].shape[1]
    if draws <= size:
        raise InputError(f"more than {size} draws for a kernel of {size} outputs", f"{draws}", "raise draws")
    drawn = f"outputs are a Gaussian process of mean 0 with the covariance of {draws} networks of this width"
    return found, (wide, drawn)


def _alike(kernel: Tensor, outputs: int) -> Tensor:
    return torch.einsum("nm,cd->ncmd", kernel, torch.eye(outputs, dtype=kernel.dtype))


def _regression(kernel: Tensor, y: Tensor, target: Target) -> Tensor:
    # All outputs at once: those of a Monte-Carlo kernel may covary.
    n, c = kernel.shape[:2]
    noise = (2 * target.likelihood.log_noise(c).detach().double()).exp().expand(n, c).flatten()
    root = torch.linalg.cholesky(kernel.reshape(n * c, n * c) + torch.diag(noise))
    z = torch.linalg.solve_triangular(root, y.double().reshape(n * c, 1), upper=False)
    return -0.5 * z.square().sum() - root.diagonal().log().sum() - 0.5 * n * c * math.log(2 * math.pi)
