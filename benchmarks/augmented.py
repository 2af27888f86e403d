"""Temperatures without augmentation, and with copies that count as data, or whose logits or probabilities are averaged.

    python -m benchmarks.augmented               # four minutes
    python -m benchmarks.augmented --summary

300 of scikit-learn's digits, 500 others for the test, a 64-32-10 net, rotations of ±18° and four copies. SGHMC at a
rate of .05 for 3,000 steps: in a direction of the prior alone, of precision 1, a velocity is kept for 10 steps and
weights are forgotten in 1/(.05 · 10/300) = 600, so that a run is five such times, of which draws are kept from the last
seven tenths.

Copies of an example are not examples. **Naive** augmentation meets one random copy at each step and counts it as the
data; what is predicted is the input as it is. Posteriors of it often want T < 1, which would be a matter of counting.
Where outputs are averaged over copies the likelihood is a proper one of N examples: over **logits**,
``log softmax(E f(t(x)))_y``, or over **probabilities**, ``log E softmax(f(t(x)))_y``. **None** has no copies at all.

References:
    Data augmentation in Bayesian neural networks and the cold posterior effect. S. Nabarro, S. Ganev,
        A. Garriga-Alonso, V. Fortuin, M. van der Wilk, L. Aitchison, 2022. arXiv:2106.05586.
    Disentangling the roles of curation, data-augmentation and the prior in the cold posterior effect. L. Noci,
        K. Roth, G. Bachmann, S. Nowozin, T. Hofmann, 2021. arXiv:2106.06596.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.data.data import Data
from novacula.invariances import Invariance
from novacula.likelihoods import Categorical
from novacula.likelihoods.base import Likelihood
from novacula.priors import Gaussian
from novacula.priors.base import Prior
from novacula.study.temperature.cold_posterior import ColdPosterior, cold_posterior
from novacula.study.temperature.runs import MethodAt
from novacula.target import Copies, Target

RESULTS = Path(__file__).parent / "results" / "augmented.json"


def augmented(
    method: MethodAt,
    network: nn.Module,
    data: Data,
    held_out: Data,
    invariance: Invariance,
    *,
    prior: Prior | None = None,
    copies: int = 4,
    **options: Any,
) -> dict[str, ColdPosterior]:
    """Score a method at several temperatures without augmentation, and with it counted in three ways.

    Args:
        method: Any method that draws, as in `cold_posterior`.
        network: The network, with one output for each class.
        data: The training data; classes.
        held_out: What predictions are scored on.
        invariance: The augmentation, at its extents.
        prior: Of the weights; by default `Gaussian`.
        copies: Transformed copies of an input that are averaged in a step and in predictions.
        options: Of `cold_posterior`: ``temperatures``, ``steps``, ``seeds`` …

    Returns:
        The studies of ``"none"``, ``"naive"``, ``"logits"`` and ``"probabilities"``.

    Raises:
        InputError: If the data are not classes, or as `cold_posterior` has it.
    """
    check_whole("copies", copies)
    if data.task != "classification":
        raise InputError("classes", data.task, "augmentation of measurements: nv.study.cold_posterior")
    wide, number = prior or Gaussian(), Copies(train=copies, evidence=copies, predict=copies)
    shares = nn.Sequential(network, nn.Softmax(-1))
    targets = {
        "none": Target(network, Categorical(), wide),
        "naive": Target(network, Categorical(), wide, invariance=Naive(invariance)),
        "logits": Target(network, Categorical(), wide, invariance=invariance, copies=number),
        "probabilities": Target(shares, Shares(), wide, invariance=invariance, copies=number),
    }
    return {name: cold_posterior(method, target, data, held_out, **options) for name, target in targets.items()}


@dataclass(frozen=True, eq=False)
class Naive(Invariance):
    """A transformation that training alone meets, one copy in a step."""

    inner: Invariance

    learnable: ClassVar[tuple[str, ...]] = ()
    averages_predictions: ClassVar[bool] = False

    @property
    def eta(self) -> Tensor:
        """Those of the inner one."""
        return self.inner.eta

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the inner one."""
        return self.inner.names

    def noise(self, n: int, x: Tensor, rng: torch.Generator) -> Tensor:
        """As the inner one draws it."""
        return self.inner.noise(n, x, rng)

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """As the inner one moves it."""
        return self.inner(x, noise)

    def project(self, eta: Tensor) -> Tensor:
        """As the inner one."""
        return self.inner.project(eta)

    def magnitude(self, eta: Tensor) -> Tensor:
        """As the inner one."""
        return self.inner.magnitude(eta)

    def describe(self) -> dict[str, float]:
        """As the inner one."""
        return self.inner.describe()


@dataclass(frozen=True, eq=False)
class Shares(Likelihood):
    """Classes of outputs that are probabilities already."""

    task = "classification"
    loss = "cross_entropy"

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """``log f_y``: f ``(N, C)`` to ``(N,)``."""
        return Categorical().log_prob(_log(f), y)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """``diag(1/√f)``: f ``(N, C)`` to ``(N, C, C)``."""
        return torch.diag_embed((-0.5 * _log(f)).exp())

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Classes ``(N,)``."""
        return Categorical().sample(_log(f), rng)

    def mean(self, f: Tensor) -> Tensor:
        """Themselves, ``(N, C)``."""
        return f

    def outputs(self, y: Tensor) -> int:
        """One of each class."""
        return Categorical().outputs(y)

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """As `Categorical` has it."""
        return Categorical().validate(y, outputs, training=training)


def _log(f: Tensor) -> Tensor:
    return f.clamp(min=torch.finfo(f.dtype).tiny).log()


def summary() -> str:
    """The table of results, in Markdown."""
    found = json.loads(RESULTS.read_text())["arms"]
    lines, cold = ["| arm | T | test log loss | gain over T = 1 | accuracy | training examples |"], "| --- | ---: |"
    lines.append(f"{cold} --- | --- | ---: | ---: |")
    for arm, study in found.items():
        rows = {name: [r for r in study["rows"] if r["metric"] == name] for name in ("nll", "accuracy")}
        for loss, right, seen in zip(*rows.values(), study["seen"], strict=True):
            gain = f"{loss['gain']:+.3f} ± {loss['gain_stderr']:.3f}" if loss["temperature"] < 1 else ""
            cells = [arm, f"{loss['temperature']:g}", f"{loss['score']:.3f} ± {loss['stderr']:.3f}", gain]
            cells += [f"{value:.3f}" for value in (right["score"], seen)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run all arms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--summary", action="store_true")
    if parser.parse_args().summary:
        print(summary())
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", nv.NovaculaWarning)
    data, began = nv.load("digits").split(300, seed=0), time.process_time()
    train, test = data[0], data[1].subset(range(500))
    net = nv.networks.make("mlp", train.x_shape, 10, width=32, depth=1)
    turns = nv.Affine(eta=torch.tensor([0.1]), only=("rotation",))
    options = {"temperatures": (0.03, 0.1, 0.3), "steps": 3_000, "batch_size": 100, "seeds": (0, 1, 2)}
    found = augmented(nv.SGHMC(lr=0.05, keep=50), net, train, test, turns, **options)
    for name, study in found.items():
        print(name, study.verdict, study.table(), sep="\n")
    told = {name: study.to_dict() for name, study in found.items()}
    write(RESULTS, {"arms": told, "cpu_seconds": time.process_time() - began, "environment": environment()})


if __name__ == "__main__":
    main()
