"""The best constant prediction: what any network has to beat."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from novacula.data.data import Data
from novacula.target.target import Target


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


def worth_of(loss: float) -> float:
    """The gain over a constant of this loss that counts as having learned: a tenth of it, at most a tenth of a nat."""
    return 0.1 * min(1.0, abs(loss))
