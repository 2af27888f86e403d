"""Any loss as a Gibbs likelihood: ``log_prob = −loss``, not normalised over the labels.

A loss that is no log-density still defines a posterior ``∝ exp(−Σ loss) p(w)``, and a normaliser of it that plays the
part of the evidence, comparable only among models with the same loss. How much the loss weighs against the prior is the
target's temperature.

The curvature is the Hessian of the loss in output space, projected on the positive semi-definite matrices, and
``L = (∂²loss/∂f²)₊^½`` its symmetric root. The derivative of an eigendecomposition is infinite where eigenvalues
coincide, as those of most losses do; that of the root, by the Daleckii–Krein formula, is not. So L is returned with
that derivative, as ``L + Q (Γ ∘ Qᵀ dH Q) Qᵀ`` with Q and Γ held constant. First derivatives of L are therefore right
wherever the projection has them (at an eigenvalue that crosses zero, the side of zero is taken); second ones are not.

References:
    A general framework for updating belief distributions. P. G. Bissiri, C. C. Holmes, S. G. Walker, 2016.
        arXiv:1306.6430.
    Functions of Matrices: Theory and Computation. N. J. Higham, 2008 (theorem 3.11, Daleckii–Krein).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from novacula.core.errors import InputError, NovaculaWarning
from novacula.core.rng import generator
from novacula.data.meaning.labels import Task
from novacula.likelihoods import checks
from novacula.likelihoods.base import Likelihood


@dataclass(frozen=True, eq=False)
class Gibbs(Likelihood):
    """``log_prob(f, y) = −function(f, y)`` for a loss of each example.

    Args:
        function: ``(f (N, C), y (N, …)) -> (N,)``, the loss of each example in nats, at each row a function of that row
            alone and twice differentiable in ``f``. (Write ``reduction="none"`` where a loss of PyTorch is used.)
        width: The number of network outputs that the loss takes; by default any.
        name: Names the loss; evidences of different names are never compared. By default the function's module and
            qualified name, and for a lambda its line. Losses that one factory makes with different settings need names.
        task: What ``y`` is, which decides how predictions are judged.
        link: Maps outputs to predictions ``(N, …)``; by default the outputs themselves.

    Attributes:
        loss: ``"gibbs:" + name``.

    Raises:
        InputError: If ``function`` or ``link`` cannot be called, or ``width`` is not a positive whole number.

    Example:
        >>> huber = Gibbs(lambda f, y: torch.nn.functional.huber_loss(f, y, reduction="none").sum(1), name="huber")
        >>> huber.log_prob(torch.zeros(1, 1), torch.tensor([[3.0]])), huber.loss
        (tensor([-2.5000]), 'gibbs:huber')
    """

    function: Callable[[Tensor, Tensor], Tensor]
    width: int | None = None
    name: str | None = None
    task: Task | Literal["other"] = "other"  # type: ignore[override]  # of each loss, not of the class
    link: Callable[[Tensor], Tensor] | None = None
    loss: str = field(init=False, repr=False)  # type: ignore[override]

    normalised: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for what, value in (("function", self.function), ("link", self.link or str)):
            if not callable(value):
                raise InputError(f"a callable {what}", repr(value), "pass the function itself, not its result")
        if self.width is not None and (not isinstance(self.width, int) or self.width < 1):
            raise InputError(
                "width as a positive whole number", repr(self.width), "pass the number of outputs, or None"
            )
        object.__setattr__(self, "loss", f"gibbs:{self.name or _name(self.function)}")

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """Minus the loss of each example: f ``(N, C)``, y ``(N, …)`` to ``(N,)``."""
        y = y.to(f.dtype) if y.is_floating_point() else y
        loss = self.function(f, y)
        if not isinstance(loss, Tensor) or loss.shape != f.shape[:1]:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise InputError(
                f"a loss of shape ({f.shape[0]},), one number for each example",
                f"{got} from {self.loss}",
                'use reduction="none", and sum over the outputs: loss.sum(1)',
            )
        return -loss

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """A root of the loss's curvature: f ``(N, C)`` to ``(N, C, K)``."""
        return _positive_root(self._hessian(f, y))

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """A loss is no distribution over labels."""
        raise InputError(
            "a likelihood that can be sampled",
            f"{self.loss}; a Gibbs likelihood has no sampling distribution",
            "use Categorical(), Bernoulli() or Normal() where labels must be drawn",
        )

    def mean(self, f: Tensor) -> Tensor:
        """Predictions; f ``(N, C)``."""
        return f if self.link is None else self.link(f)

    def outputs(self, y: Tensor) -> int:
        """``width``, or else a guess: a column each for floating labels, a class each for whole ones; y ``(N, …)``."""
        if self.width is not None:
            return self.width
        if y.is_floating_point() or y.ndim > 1:
            return checks.targets(y, training=True).shape[1]
        return int(checks.classes(y, None, training=True).max()) + 1

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Check the labels, and try the loss on the first rows with made-up outputs.

        Warns:
            NovaculaWarning: If the loss has no curvature at the made-up outputs.

        Returns:
            The labels as they came.

        Raises:
            InputError: If a label is NaN or infinite, if ``outputs`` is not ``width``, or if the loss fails, returns
                the wrong shape, or mixes the examples of a batch.
        """
        checks.rows(y, at_least=2 if training else 1)
        bad = ~torch.isfinite(y).flatten(1).all(1) if y.ndim > 1 else ~torch.isfinite(y)
        if bad.any():
            row, more = checks.first(bad)
            values = y[row].flatten()
            column = int((~torch.isfinite(values)).nonzero()[0, 0])
            raise InputError(
                "finite labels",
                f"{values[column].item()} in row {row}, column {column}{more}",
                "drop or impute those rows",
            )
        if self.width is not None and self.width != outputs:
            raise InputError(f"a network with {self.width} outputs", f"{outputs}", "change the last layer or width")
        self._rehearse(y[:4], outputs)
        return y

    def _rehearse(self, y: Tensor, outputs: int) -> None:
        dtype = y.dtype if y.is_floating_point() else torch.get_default_dtype()
        f = torch.randn(len(y), outputs, generator=generator(0, "gibbs"), dtype=dtype).to(y.device)
        try:
            together = self.log_prob(f, y)
            alone = torch.cat([self.log_prob(f[i : i + 1], y[i : i + 1]) for i in range(len(y))])
            hessian = self._hessian(f, y).detach()
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise InputError(
                f"a loss that takes outputs {tuple(f.shape)} and labels {tuple(y.shape)} ({y.dtype})",
                f"{type(error).__name__} from {self.loss}: {error}",
                "check the shapes and dtypes that the loss expects, and that it is twice differentiable",
            ) from error
        if not torch.allclose(together, alone, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise InputError(
                "a loss of each example alone",
                f"{self.loss}, which gives other values when examples are taken one at a time",
                "remove what averages over the batch or draws random numbers",
            )
        if bool((hessian == 0).all()):
            warnings.warn(
                f"{self.loss} has no curvature in the outputs, so that a Laplace evidence sees no Occam factor; "
                "use a smooth loss (Huber, softplus), or an evidence by sampling",
                NovaculaWarning,
                stacklevel=3,
            )

    def _hessian(self, f: Tensor, y: Tensor) -> Tensor:
        # One pull-back for each output, for all examples at once (their losses do not mix). Unlike vmap of a
        # per-example Hessian this needs no batching rule and no forward-mode formula of whatever the user's loss calls.
        pull = torch.func.vjp(torch.func.grad(lambda f: -self.log_prob(f, y).sum()), f)[1]
        basis = torch.eye(f.shape[1], dtype=f.dtype, device=f.device)
        h = torch.stack([pull(e.expand_as(f), retain_graph=True)[0] for e in basis], 1)
        return 0.5 * (h + h.mT)


def _name(function: object) -> str:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", None)
    line = f":{code.co_firstlineno}" if code is not None and "<lambda>" in name else ""
    return f"{getattr(function, '__module__', type(function).__module__)}.{name}{line}"


def _positive_root(h: Tensor) -> Tensor:
    """``(h₊)^½`` for symmetric ``h (N, C, C)``, with the Daleckii–Krein first derivative."""
    values, q = torch.linalg.eigh(h.detach())
    tiny = torch.finfo(h.dtype).eps * h.shape[-1] * values.abs().amax(-1, keepdim=True)
    values = torch.where(values.abs() <= tiny, torch.zeros_like(values), values)
    root = values.clamp_min(0).sqrt()
    a, b = values[:, :, None], values[:, None, :]
    sums = root[:, :, None] + root[:, None, :]
    # (g(a) − g(b))/(a − b) for g(a) = √max(a, 0), written without the cancellation; zero on the projected-out block.
    both = (a > 0) & (b > 0)
    safe = torch.where(sums > 0, sums, torch.ones_like(sums))
    slope = torch.where(both, 1 / safe, safe / torch.where(sums > 0, a.abs() + b.abs(), torch.ones_like(sums)))
    slope = torch.where(sums > 0, slope, torch.zeros_like(slope))
    moved = q.mT @ (h - h.detach()) @ q
    return q @ (torch.diag_embed(root) + slope * moved) @ q.mT
