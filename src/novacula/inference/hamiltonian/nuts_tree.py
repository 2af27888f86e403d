"""The transition of the no-U-turn sampler, for all chains in lockstep and without recursion.

A trajectory doubles forwards or backwards in time at random until it turns back on itself, and one of its points is
drawn with the weights ``exp(−H)``, favouring the later half. With whitened momenta z (see
`novacula.inference.hamiltonian.mass`) and ``ρ = Σ z`` over a stretch of the trajectory, the stretch has turned when
``ρ·z ≤ 0`` at one of its ends. This is asked of every stretch that a doubling of a doubling makes, and, as Stan does,
of each half together with the first point of the other half. Both are symmetric in time, which keeps the posterior
invariant.

All chains are in the same doubling, and in a doubling they are at the same leaf, because a chain whose new half turns
or diverges has finished. So what has to be compared at a leaf is a function of its number alone: at an even leaf b a
stretch begins that some later leaf will close, so the momentum there, the one before it, and the sum before it are
stored, in the slot numbered by the ones in b's binary digits; there are as many slots as doublings. One matrix product
per leapfrog step gives the inner products of the new momentum with everything stored; the rest is arithmetic on a few
plain numbers a chain.

References:
    The no-U-turn sampler: adaptively setting path lengths in Hamiltonian Monte Carlo. M. D. Hoffman, A. Gelman, 2014.
    arXiv:1111.4246.
    A conceptual introduction to Hamiltonian Monte Carlo. M. Betancourt, 2017. arXiv:1701.02434 (multinomial weights,
    biased progressive sampling, the generalised criterion).
    Composable effects for flexible and accelerated probabilistic programming in NumPyro. D. Phan, N. Pradhan,
    M. Jankowiak, 2019. arXiv:1912.11554 (the iterative form).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from novacula.inference.hamiltonian.mass import Mass
from novacula.inference.hamiltonian.trajectory import DIVERGENCE, Place, Transition, energy_at, normal
from novacula.target.flat import Potential


def nuts(
    potential: Potential,
    place: Place,
    step_size: Tensor,
    mass: Mass,
    rng: torch.Generator,
    *,
    max_depth: int = 10,
) -> Transition:
    """One transition of every chain; step_size ``(M,)``."""
    chains = len(step_size)

    def uniforms(depth: int) -> Tensor:
        return torch.rand(chains, 2**depth + 2, generator=rng, dtype=torch.float64, device=rng.device)

    return grow(potential, place, step_size, mass, normal(place.position, rng), uniforms, max_depth=max_depth)


def grow(
    potential: Potential,
    place: Place,
    step_size: Tensor,
    mass: Mass,
    momentum: Tensor,
    uniforms: Callable[[int], Tensor],
    *,
    max_depth: int,
) -> Transition:
    """One transition of every chain, given its randomness. A chain's result depends on its own row of it alone."""
    tree = _Tree(place, momentum, step_size, mass, max_depth)
    growing = tree.chains
    for depth in range(max_depth):
        u = uniforms(depth).tolist()
        for chain in growing:
            chain.begin(depth, u[chain.row])
        growing = tree.double(potential, growing, depth)
        if not growing:
            break
    return tree.result()


class _Chain:
    """The numbers of one chain: energies, weights and inner products. Those of the newest half come last."""

    def __init__(self, row: int, start: float, norm: float) -> None:
        self.row, self.start = row, start
        self.aligned, self.norms = [norm, norm], [norm, norm]  # of both ends: z·ρ with the whole trajectory, and z·z
        self.weight, self.accept, self.leapfrogs, self.depth, self.diverged = 0.0, 0.0, 0, 0, False

    def begin(self, depth: int, u: list[float]) -> None:
        # Start a doubling.
        self.u, self.last_leaf = u, 2**depth - 1
        self.side = int(u[0] < 0.5)  # the end that grows: 0 the past, 1 the future
        self.far, self.near = self.aligned[1 - self.side], self.aligned[self.side]  # z of the far and newest leaf, · ρ
        self.norm = self.norms[self.side]  # z·z of the newest leaf
        self.half_weight, self.goes_on = -math.inf, True
        self.takes, self.drawn = False, 0.0  # whether the newest leaf is drawn; the log density of the draw
        # By slot: the momentum of b, and of the leaf before it, times the sum of all from there to the newest leaf.
        self.sums, self.wider = [0.0] * depth, [0.0] * depth

    def visit(self, leaf: int, products: list[float], log_density: float) -> bool:
        # Take account of a new leaf; whether the new half is still valid.
        self.leapfrogs += 1
        gain = log_density - 0.5 * products[0] - self.start
        if not -DIVERGENCE < gain < math.inf:
            self.diverged = True
            return False
        self.accept += 1.0 if gain > 0 else math.exp(gain)
        self.half_weight = _log_add(self.half_weight, gain)
        self.takes = self.u[2 + leaf] < math.exp(gain - self.half_weight)
        if self.takes:
            self.drawn = log_density
        return self._is_straight(leaf, products)

    def _is_straight(self, leaf: int, products: list[float]) -> bool:
        norm_before, self.norm = self.norm, products[0]
        near = self.near = products[1]
        self.far += products[2]
        sums, wider, ones = self.sums, self.wider, leaf.bit_count()
        for slot in range(len(products) // 3 - 1):
            wider[slot] += products[3 * slot + 3]
            sums[slot] += products[3 * slot + 5]
        if leaf % 2 == 0:
            if self.last_leaf > 0:
                wider[ones], sums[ones] = norm_before + products[3 * ones + 3], self.norm
            if leaf == 0:
                # The old half with the first leaf of the new one: decides whether to go on, not what is valid.
                self.goes_on = self.far > 0 and near > 0
                return True
            # A left half with the first leaf of its right half.
            return sums[ones - 1] > 0 and near - products[3 * ones + 1] > 0
        low = ones - (~leaf & (leaf + 1)).bit_length() + 1
        for slot in range(low, ones):
            # All stretches that end here, and the right halves among them also with the last leaf of their left half.
            end = near - products[3 * slot + 4]
            if not (sums[slot] > 0 and end > 0):
                return False
            if slot > low and not (wider[slot] > 0 and end + products[3 * slot + 3] > 0):
                return False
        if leaf == self.last_leaf:
            # The new half with the nearest leaf of the old one.
            self.goes_on = self.goes_on and wider[0] > 0 and near - products[4] + products[3] > 0
        return True

    def join(self) -> bool:
        # Add the new half to the trajectory; whether its draw is taken.
        gain = self.half_weight - self.weight
        taken = gain >= 0 or self.u[1] < math.exp(gain)
        self.weight = _log_add(self.weight, self.half_weight)
        self.aligned[self.side], self.aligned[1 - self.side] = self.near, self.far
        self.norms[self.side] = self.norm
        self.depth += 1
        self.goes_on = self.goes_on and self.far > 0 and self.near > 0
        return taken


class _Tree:
    """The vectors of all M trajectories: sums ρ of momenta, what is drawn, and both ends, M pasts before M futures."""

    def __init__(self, place: Place, momentum: Tensor, step_size: Tensor, mass: Mass, max_depth: int) -> None:
        self.q, self.z = torch.cat([place.position] * 2), torch.cat([momentum] * 2)
        self.g, self.rho = torch.cat([place.gradient] * 2), momentum.clone()
        self.drawn_q, self.drawn_g = place.position.clone(), place.gradient.clone()
        self.log_density = place.log_density.tolist()
        self.step_size, self.mass, self.like = step_size, mass, place.log_density
        self.work = momentum.new_empty(len(momentum), 3 * max_depth, momentum.shape[1])
        starts, norms = energy_at(place, momentum).tolist(), momentum.square().sum(1).tolist()
        self.chains = [_Chain(i, *pair) for i, pair in enumerate(zip(starts, norms, strict=True))]

    def double(self, potential: Potential, chains: list[_Chain], depth: int) -> list[_Chain]:
        # Double the trajectories of some chains; those that may be doubled again.
        half = _Half(self, chains, depth)
        for leaf in range(2**depth):
            rows, values = half.leapfrog(potential, leaf)
            valid = [c.visit(leaf, row, value) for c, row, value in zip(half.chains, rows, values, strict=True)]
            half.draw(leaf)
            if False in valid:
                half.keep([i for i, ok in enumerate(valid) if ok])
                if not half.chains:
                    return []
            half.store(leaf)
        taken = [i for i, c in enumerate(half.chains) if c.join()]
        if taken:
            of, to = self.index([taken, [half.chains[i].row for i in taken]])
            self.drawn_q.index_copy_(0, to, half.drawn_q.index_select(0, of))
            self.drawn_g.index_copy_(0, to, half.drawn_g.index_select(0, of))
            for i in taken:
                self.log_density[half.chains[i].row] = half.chains[i].drawn
        for end, new in ((self.q, half.q), (self.z, half.z), (self.g, half.g)):
            end.index_copy_(0, half.near, new)
        self.rho.index_copy_(0, half.rows, half.rho)
        return [c for c in half.chains if c.goes_on]

    def index(self, values: list[list[int]]) -> Tensor:
        # Row numbers as a tensor, where the vectors are.
        return torch.tensor(values, device=self.q.device)

    def result(self) -> Transition:
        # What the transition came to.
        device = self.like.device

        def tensor(values: list[float] | list[int] | list[bool], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        return Transition(
            Place(self.drawn_q, tensor(self.log_density, self.like.dtype), self.drawn_g),
            tensor([c.accept / max(1, c.leapfrogs) for c in self.chains], torch.float64),
            tensor([c.diverged for c in self.chains], torch.bool),
            tensor([c.leapfrogs for c in self.chains], torch.int64),
            tensor([c.depth for c in self.chains], torch.int64),
        )


class _Half:
    """The vectors of the halves that one doubling adds, of the chains for which they are still valid.

    Row 0 of ``work`` is the momentum z of the newest leaf, row 1 the sum ρ of all momenta from the far end of the old
    half to it, row 2 the momentum of the far end. Three rows a slot follow, for a stretch that begins at leaf b: the
    momentum of the leaf before b, the sum up to that leaf, and the momentum of b.
    """

    def __init__(self, tree: _Tree, chains: list[_Chain], depth: int) -> None:
        self.chains, self.depth, self.mass = chains, depth, tree.mass
        m = len(tree.chains)
        index = [(c.row, c.row + m * c.side, c.row + m * (1 - c.side), 2 * c.side - 1) for c in chains]
        self.rows, self.near, far, sign = tree.index([list(i) for i in zip(*index, strict=True)])
        self.q, self.g = tree.q.index_select(0, self.near), tree.g.index_select(0, self.near)
        self.drawn_q, self.drawn_g = self.q, self.g
        self.signed = tree.step_size.index_select(0, self.rows) * sign
        self._prepare(tree.work[: len(chains), : 3 * depth + 3])
        self.z.copy_(tree.z.index_select(0, self.near))
        self.rho.copy_(tree.rho.index_select(0, self.rows))
        self.work[:, 2].copy_(tree.z.index_select(0, far))
        self.store(-1)

    def _prepare(self, work: Tensor) -> None:
        # Views are made once: making one takes as long as the arithmetic of a small network.
        self.work, self.stepper = work, self.mass.stepper(self.signed)
        self.force = self.stepper.force(self.g)
        self.z, self.rho, self.as_row, self.newest = work[:, 0], work[:, 1], work[:, :1], work[:, :2]
        self.stored = [work[:, : 3 * k + 3].mT for k in range(self.depth + 1)]
        self.slot_before = [work[:, 3 * k + 3 : 3 * k + 5] for k in range(self.depth)]
        self.slot_first = [work[:, 3 * k + 5] for k in range(self.depth)]

    def leapfrog(self, potential: Potential, leaf: int) -> tuple[list[list[float]], list[float]]:
        # Move to the next leaf; its momentum times what is stored, and its log density, of every chain.
        self.z.add_(self.force, alpha=0.5)
        self.stepper.drift_(self.q, self.z)
        log_density, self.g = potential(self.q)
        self.force = self.stepper.force(self.g)
        self.z.add_(self.force, alpha=0.5)
        self.rho.add_(self.z)
        slots = (leaf | 1).bit_count() if self.depth else 0
        if slots and leaf % 2 == 0:
            self.slot_first[slots - 1].copy_(self.z)
        return torch.bmm(self.as_row, self.stored[slots])[:, 0].tolist(), log_density.tolist()

    def draw(self, leaf: int) -> None:
        # Copy the leaves that chains have drawn.
        if leaf == 0:
            self.drawn_q, self.drawn_g = self.q.clone(), self.g.clone()
            return
        taken = [i for i, c in enumerate(self.chains) if c.takes]
        if taken:
            at = torch.tensor(taken, device=self.q.device)
            self.drawn_q.index_copy_(0, at, self.q.index_select(0, at))
            self.drawn_g.index_copy_(0, at, self.g.index_select(0, at))

    def store(self, leaf: int) -> None:
        # Where the next leaf begins a stretch, store what lies before it.
        if self.depth and leaf % 2 == 1 and leaf < 2**self.depth - 1:
            self.slot_before[(leaf + 1).bit_count()].copy_(self.newest)

    def keep(self, which: list[int]) -> None:
        # Go on with some of the chains.
        self.chains = [self.chains[i] for i in which]
        at = torch.tensor(which, dtype=torch.int64, device=self.q.device)
        self.q, self.g, self.drawn_q, self.drawn_g, self.signed, self.rows, self.near, work = (
            x.index_select(0, at)
            for x in (self.q, self.g, self.drawn_q, self.drawn_g, self.signed, self.rows, self.near, self.work)
        )
        self._prepare(work)


def _log_add(a: float, b: float) -> float:
    high, low = (a, b) if a > b else (b, a)
    return high + math.log1p(math.exp(low - high))
