"""The best constant prediction, and whether a network does better: else its evidence says nothing of its extents."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from novacula.data.data import Data
from novacula.likelihoods.base import Likelihood
from novacula.target import Target

_SHARE = 0.1
_DECAY = 0.9


@dataclass(frozen=True, eq=False)
class Skill:
    """What a network gains over the best constant output, followed over minibatches; constant ``(C,)``."""

    constant: Tensor  # the constant, shape ``(C,)``
    gain: float = math.nan  # A running mean of the gain, in nats per example; NaN before the first batch
    needed: float = _SHARE  # the gain that counts: a tenth of the constant's own loss, at most a tenth of a nat

    @property
    def better(self) -> bool:
        """Whether the gain counts."""
        return self.gain > self.needed

    def update(self, likelihood: Likelihood, y: Tensor, loss: float) -> Skill:
        """Take a batch into account."""
        with torch.no_grad():
            base = -float(likelihood.log_prob(self.constant.expand(len(y), -1), y).mean())
        mix = 0.0 if math.isnan(self.gain) else _DECAY
        gain = base - loss if mix == 0 else mix * self.gain + (1 - mix) * (base - loss)
        needed = _SHARE * min(1.0, abs(base))
        return replace(self, gain=gain, needed=needed if mix == 0 else mix * self.needed + (1 - mix) * needed)


def best_constant(target: Target, data: Data) -> Tensor:
    """The output ``c`` that maximises ``Σ log p(y_n | c)`` when the network ignores its input.

    By L-BFGS from zero; the log-likelihoods of this package are concave in the output or nearly so.

    Returns:
        Shape ``(C,)``. Zero where the likelihood has no gradient.

    Example:
        >>> y = torch.tensor([0, 0, 0, 1])
        >>> c = best_constant(Target(torch.nn.Linear(3, 2)), Data(torch.zeros(4, 3), y))
        >>> [round(p, 3) for p in c.softmax(0).tolist()]
        [0.75, 0.25]
    """
    f = target.forward(target.params(), data.x[:1]).detach()

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        c = torch.from_numpy(values).to(f.device).requires_grad_()
        with torch.enable_grad():
            value = -target.likelihood.log_prob(c.to(f.dtype).expand(data.n, -1), data.y).mean()
        grad = torch.autograd.grad(value, c)[0] if value.requires_grad else torch.zeros_like(c)
        return float(value.detach()), grad.cpu().numpy()

    found = torch.from_numpy(minimize(loss, np.zeros(f.shape[1]), jac=True, method="L-BFGS-B").x).to(f)
    return found if bool(torch.isfinite(found).all()) else torch.zeros_like(found)
