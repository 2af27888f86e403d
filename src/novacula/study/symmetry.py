"""`symmetry`: which one-parameter groups of maps the data have, found and not chosen from a list.

Networks that are blind to a fold each are trained without any transformation. What they have learned is hardly changed
by a small map along a generator G if the data are symmetric under it. With ``D_n`` the derivatives of an example's
outputs in the entries of G, and ``L_n`` the root of the Fisher information of its outputs,

    E(G) = Σ_n ‖L_nᵀ D_n vec G‖²,        M(G) = Σ ‖G p‖²,

the change in what is predicted, and the distance that contents p move. The generators that change least for the
distance are the first eigenvectors of E in the metric M. Then each is tried in earnest: every example is moved at
random along it, up to as far as its contents are from the middle, and predicted by networks that have not seen it. What
a network knows is its gain over the best constant. A generator is a symmetry if it costs surely (at a level of 5 %)
less than a tenth of that; the first that is not ends the list, which may be empty.

What networks have not learned yet is not changed by any map either. So they go on for as many steps again as they have
taken, until that adds less than a tenth to what they know.

References:
    LieGG: studying learned Lie group generators. A. Moskalev, A. Sepliarskaia, I. Sosnovik, A. Smeulders, 2022.
    arXiv:2210.04345.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from novacula.core.brief import brief
from novacula.core.checks.numbers import check_numbers, check_within
from novacula.core.rng import derive, generator
from novacula.data.data import Data
from novacula.data.given import DataLike
from novacula.inference.loop import default_batch_size
from novacula.inference.method import Method
from novacula.invariances.groups.generators import Generators
from novacula.study.cross_fit.result import CrossFit
from novacula.study.cross_fit.train import cross_fit, length
from novacula.target import Target
from novacula.target.constant import best_constant
from novacula.target.given import TargetLike, prepared

Verdict = Literal["symmetry", "no symmetry", "unknown"]

_STEP = 0.03  # of the finite differences in an entry: less than a pixel of small images
_Z = 1.645
_ROWS = 1_000  # examples whose derivatives are taken
_MOVES = 4  # times that every example is moved, in opposite pairs
_DOUBLINGS = 4  # of the steps, at most


@dataclass(frozen=True, eq=False)
class Symmetries:
    """What maps the data are symmetric under.

    Attributes:
        verdict: ``"symmetry"``, ``"no symmetry"``, or ``"unknown"`` where the networks have learned nothing, or still
            learn so much that what is a symmetry of theirs need not be one of the data.
        generators: Those that are, by how little they change; shape ``(K, 2, 3)`` or ``(K, D, D)``, scaled so that
            contents move, at u = 1, as far as they are from the middle (root mean squares).
        contrast: Of every direction, the change for the distance over its mean; 0 for a perfect symmetry.
        cost: Of each generator that was tried, the share of what the networks know that it costs …
        stderr: … with its standard error over examples.
        unseen: The networks.
    """

    verdict: Verdict
    generators: Tensor
    contrast: Tensor
    cost: tuple[float, ...]
    stderr: tuple[float, ...]
    unseen: CrossFit

    __repr__ = brief

    def invariance(self, extent: float = 1.0) -> Generators | None:
        """These generators, for a target whose extents are then learned along with their directions.

        Args:
            extent: By what they are multiplied.

        Returns:
            None where there is no symmetry.
        """
        if not len(self.generators):
            return None
        shape = self.unseen.data.x_shape
        return Generators(shape, len(self.generators), eta=(self.generators * extent).flatten())


def symmetry(
    target: TargetLike,
    data: DataLike,
    *,
    folds: int = 4,
    method: Method | None = None,
    steps: int | None = None,
    most: int = 2,
    tolerance: float = 0.1,
    seed: int = 0,
) -> Symmetries:
    """Find the one-parameter groups of affine maps of images, or linear maps of rows and signals, that data have.

    Args:
        target: The model, or a network; an invariance of its own is left out.
        data: The data: images ``(C, H, W)``, rows ``(D,)`` or signals ``(C, D)``; of the latter, values are mapped by a
            D×D matrix.
        folds: Networks, each blind to a fold.
        method: How each is trained; by default as `cross_fit` does.
        steps: Steps of each before the first look; by default those of `cross_fit`. They are doubled, up to four times,
            as long as that adds more than the tolerance to what the networks know.
        most: Generators that are tried at most.
        tolerance: The share of what the networks know that a symmetry may cost.
        seed: Seed of everything random.

    Returns:
        Generators and the verdict, which may be that there is no symmetry.

    Raises:
        InputError: If the inputs have another shape, or network and data do not fit together.
    """
    check_numbers(steps=steps, seed=seed)
    check_within("tolerance", tolerance)
    whole, checked = prepared(target, data)
    shape, plain = checked.x_shape, dataclasses.replace(whole, invariance=None)
    size = Generators(shape).eta.numel()
    unseen, gains, growing = _trained(plain, checked, folds, method, steps, tolerance, seed)
    before, known, error = _losses(unseen, checked.x), float(gains.mean()), float(gains.std()) / math.sqrt(checked.n)
    with torch.no_grad():
        values, vectors = _directions(unseen, Generators(shape), derive(seed, "rows"))
    found, cost, stderr = list[Tensor](), list[float](), list[float]()
    learned = known > 2 * error
    for k in range(min(most, size) if learned else 0):
        one = _scaled(Generators(shape, eta=vectors[:, k].to(checked.x.dtype)), checked.x)
        noise = one.noise(checked.n * _MOVES, checked.x, generator(seed, "move", k)).unflatten(0, (checked.n, -1))
        moved = torch.stack([_losses(unseen, one(checked.x, u)) for u in noise.unbind(1)]).mean(0)
        change = (moved - before) / known
        cost.append(float(change.mean()))
        stderr.append(float(change.std()) / math.sqrt(checked.n))
        if cost[-1] + _Z * stderr[-1] > tolerance:
            break
        found.append(one.matrices[0])
    sides = Generators(shape).matrices.shape[1:]
    return Symmetries(
        verdict="no symmetry" if learned and not found else "unknown" if not learned or growing else "symmetry",
        generators=torch.stack(found) if found else checked.x.new_zeros(0, *sides),
        contrast=values,
        cost=tuple(cost),
        stderr=tuple(stderr),
        unseen=unseen,
    )


def _trained(
    target: Target, data: Data, folds: int, method: Method | None, steps: int | None, tolerance: float, seed: int
) -> tuple[CrossFit, Tensor, bool]:
    # Networks that more steps hardly teach more, what they know of each example, (N,), and whether there are none yet.
    size = default_batch_size(data.n, table=data.x.ndim == 2)
    go = length(steps, None, data.n - data.n // folds, size)
    unseen = cross_fit(target, data, folds=folds, method=method, steps=go, batch_size=size, seed=derive(seed, "folds"))
    constant = best_constant(unseen.target, unseen.data).expand(data.n, -1)
    least = -unseen.target.likelihood.log_prob(constant, unseen.data.y).double()
    gains, growing = least - _losses(unseen, unseen.data.x), True
    options = {"folds": unseen.folds, "method": method, "batch_size": size}
    for k in range(_DOUBLINGS):
        own = derive(seed, "more", k)
        more = cross_fit(target, data, steps=go * 2**k, starts=unseen.networks, seed=own, **options)
        after = least - _losses(more, more.data.x)
        growing = float((after - gains).mean()) > tolerance * float(after.mean())
        unseen, gains = (more, after) if after.mean() > gains.mean() else (unseen, gains)
        if not growing:
            break
    return unseen, gains, growing


@torch.no_grad()
def _losses(unseen: CrossFit, x: Tensor) -> Tensor:
    # Each example's loss by the network that has not seen it, at inputs of its own, (N,).
    found = x.new_zeros(len(x), dtype=torch.float64)
    target = unseen.target
    for k, point in enumerate(unseen.params):
        rows = (unseen.folds == k).to(x.device)
        own, weights = target.at(point)
        f = own.forward(weights, x[rows])
        found[rows] = -target.likelihood.log_prob(f, unseen.data.y[rows]).double()
    return found


def _directions(unseen: CrossFit, like: Generators, seed: int) -> tuple[Tensor, Tensor]:
    # Eigenvalues of E in the metric M over their mean, (L,), and eigenvectors (L, L), from the mean of all networks.
    rows = torch.randperm(unseen.data.n, generator=generator(seed, "rows"))[:_ROWS].to(unseen.data.x.device)
    data, size = unseen.data.subset(rows), like.eta.numel()
    f = _mean(unseen, data.x)
    columns = list[Tensor]()
    for k in range(size):
        step = torch.zeros(size, dtype=data.x.dtype)
        step[k] = _STEP
        one = dataclasses.replace(like, eta=step)
        up, down = (_mean(unseen, one(data.x, data.x.new_full((data.n, 1), u))) for u in (1.0, -1.0))
        columns.append((up - down) / (2 * _STEP))
    slopes = torch.stack(columns, -1)  # (N, C, L)
    root = unseen.target.likelihood.factor(f, data.y)
    energy = torch.einsum("nck,ncl->nkl", root, slopes).flatten(0, 1).double()
    lower = torch.linalg.cholesky(like.metric(data.x))
    half = torch.linalg.solve_triangular(lower, energy.T, upper=False)
    values, vectors = torch.linalg.eigh(half @ half.T)
    directions = torch.linalg.solve_triangular(lower.T, vectors, upper=True)
    return values.clamp(min=0) / values.mean().clamp(min=1e-300), directions / directions.norm(dim=0)


def _mean(unseen: CrossFit, x: Tensor) -> Tensor:
    # The networks' mean output, (N, C).
    points = [unseen.target.at(point) for point in unseen.params]
    return torch.stack([own.forward(weights, x) for own, weights in points]).mean(0)


def _scaled(one: Generators, x: Tensor) -> Generators:
    # Of the length at which contents move as far as they are from the middle.
    return dataclasses.replace(one, eta=one.eta / one.displacement(x))
