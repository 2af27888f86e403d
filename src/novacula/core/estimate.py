"""`Estimate`: a number that says what kind of number it is, how sure it is, and what it assumes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.storage.plain import record

Kind = Literal["exact", "estimate", "lower bound", "upper bound"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A log evidence (or another log-quantity) with its error and its provenance.

    Args:
        value: A scalar tensor, in nats; may carry gradients to hyperparameters.
        stderr: Standard error of the estimate from the randomness it used; 0 where it used none, NaN where a single
            draw cannot tell.
        kind: Whether the value is exact, an estimate, or a bound.
        estimator: The estimator and its settings, e.g. ``"Laplace(kron)"``. Values of different estimators are not
            comparable: their biases differ.
        n: The number of examples the value speaks of.
        fingerprint: The data's content fingerprint.
        loss: The loss's name (``"categorical"``, …).
        temperature: The posterior temperature at which the value was computed.
        assumptions: What must hold for the value to mean what it says.
        warnings: Reservations found while computing it.
        parts: The terms that sum to the value, by name, for people.
        unit: Always ``"nat"``.
        details: A table of the same estimate under other settings, one row of numbers a setting; empty where there is
            none.
    """

    value: Tensor
    stderr: float
    kind: Kind
    estimator: str
    n: int
    fingerprint: str
    loss: str
    temperature: float = 1.0
    assumptions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    parts: dict[str, float] = field(default_factory=dict)
    unit: Literal["nat"] = "nat"
    details: tuple[dict[str, float], ...] = ()

    @property
    def per_example(self) -> float:
        """The value divided by the number of examples, in nats."""
        return float(self.value.detach()) / self.n

    def __float__(self) -> float:
        return float(self.value.detach())

    def __sub__(self, other: Estimate) -> Estimate:
        """The log Bayes factor of two models on the same data."""
        if not isinstance(other, Estimate):
            raise InputError("another estimate", f"a {type(other).__name__}", "float(estimate) is the number")
        for name, hint in (
            ("estimator", "score both models with the same estimator and settings"),
            ("fingerprint", "score both models on the same data"),
            ("loss", "evidences of different losses have different units; use one likelihood"),
            ("temperature", "partition functions at different temperatures do not compare; use one temperature"),
        ):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise InputError(f"two estimates with the same {name}", f"{mine!r} and {theirs!r}", hint)
        return replace(
            self,
            value=self.value - other.value,
            stderr=math.hypot(self.stderr, other.stderr),
            kind="exact" if self.kind == other.kind == "exact" else "estimate",
            assumptions=tuple(dict.fromkeys(self.assumptions + other.assumptions)),
            warnings=tuple(dict.fromkeys(self.warnings + other.warnings)),
            parts={},
            details=(),
        )

    def to_dict(self) -> dict[str, object]:
        """The estimate as plain JSON values.

        Returns:
            All fields, the value as a float, and ``per_example``; a standard error that is not known is None, and
            ``details`` are left out where there are none.
        """
        names = ("stderr", "kind", "estimator", "per_example", "n", "unit", "loss", "temperature", "fingerprint")
        found: dict[str, object] = {"value": float(self), **record(self, *names, "assumptions", "warnings", "parts")}
        return found | ({"details": [dict(row) for row in self.details]} if self.details else {})

    def __repr__(self) -> str:
        doubts = f"; {len(self.warnings)} in .warnings" if self.warnings else ""
        return f"Estimate({float(self):.6g} ± {self.stderr:.2g} nat, {self.kind}, {self.estimator}, N={self.n}{doubts})"
