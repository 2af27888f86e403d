"""`SMC`: populations of particles that follow the posterior from the prior to the data, and the evidence on the way.

A particle starts as a draw of the prior. The likelihood then enters step by step, ``p_β(w) ∝ p(w) p(D|w)^β`` with β
from 0 to 1: the particles are weighted by ``p(D|w)^(β'−β)``, drawn again by their weights, and moved by a Markov chain
that leaves ``p_β'`` as it is. Each β' is chosen so that the weights keep a given effective sample size. The product of
the mean weights estimates the evidence,

    Ẑ = Π_t 1/N Σ_i p(D|w_i)^(β_t − β_{t−1}).

Several populations run side by side, independent but for the scale of their moves. The spread between them is the
standard error of their mean: particles of one population descend from few ancestors, so that a population's own idea of
its error is far too small.

References:
    Sequential Monte Carlo samplers. P. Del Moral, A. Doucet, A. Jasra, 2006.
    On the convergence of adaptive sequential Monte Carlo methods. A. Beskos, A. Jasra, N. Kantas, A. Thiery, 2016.
    arXiv:1306.6462.
    Elliptical slice sampling. I. Murray, R. P. Adams, D. J. C. MacKay, 2010. arXiv:1001.0175.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from scipy.stats import t as student_t
from torch import Tensor

from novacula.core.checks.numbers import check_fields
from novacula.core.errors import InputError
from novacula.core.many import chunk_of, in_chunks, over_members, part_of
from novacula.core.params import Params, count, flatten, unflatten
from novacula.data.data import Data
from novacula.inference.hamiltonian.mass import DiagonalMass
from novacula.inference.hamiltonian.trajectory import hmc, place_at
from novacula.inference.method import Batching, Info, Start
from novacula.inference.particles.splitting.moves import MOST, elliptical
from novacula.inference.recorder import Recorder, check_room, draws_of
from novacula.posteriors.draws import Draws
from novacula.priors.base import Prior
from novacula.target import Density, LogDensity, Target
from novacula.target.batch import Batch
from novacula.target.flat import FlatDensity, Potential, flat_density

_BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class SMCState:
    """M populations of N particles."""

    positions: Tensor  # shape ``(M, N, P)``
    log_likelihood: Tensor  # shape ``(M, N)``, float64
    beta: Tensor  # how much of the likelihood has entered, shape ``(M,)``
    log_evidence: Tensor  # logarithm of the product so far, shape ``(M,)``
    step_size: Tensor  # of Hamiltonian moves, in units of the particles' spread, shape ``(M,)``
    data: Data | None = field(metadata={"checkpoint": False})  # the training data; None for a plain log-density
    full: FlatDensity = field(metadata={"checkpoint": False})  # log-density with all of the likelihood
    prior: FlatDensity = field(metadata={"checkpoint": False})  # log-density of the prior
    like: Params = field(metadata={"checkpoint": False})  # one point, which gives names and shapes


@dataclass(frozen=True)
class SMC:
    """Sequential Monte Carlo from the prior to the posterior; the chains of `infer` are its populations.

    A step of the run is one temperature, and the run ends when all of the likelihood has entered; ``steps`` is the most
    that may be taken. The target must not be tempered as a whole (its likelihood may be); a plain log-density needs
    a prior.

    Args:
        particles: N of each population.
        move: ``"hmc"``, or ``"elliptical"`` slice moves, which need no gradient but a Gaussian prior.
        moves: Moves of each particle at each temperature.
        leapfrogs: Leapfrog steps of a Hamiltonian move.
        target_ess: The effective sample size that a change of temperature leaves, as a share of N.
        target_accept: The acceptance that step sizes of Hamiltonian moves adapt to.

    Raises:
        InputError: If a number is outside its range.
    """

    particles: int = 256
    move: Literal["hmc", "elliptical"] = "hmc"
    moves: int = 5
    leapfrogs: int = 8
    target_ess: float = 0.5
    target_accept: float = 0.8

    batching: Batching = field(default="full", init=False, repr=False)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.particles < 4 or self.moves < 1 or self.leapfrogs < 1:
            raise InputError(
                "4 or more particles, 1 or more moves and leapfrogs",
                f"{self.particles}, {self.moves}, {self.leapfrogs}",
                "leave them out for the defaults",
            )
        if not (0 < self.target_ess < 1 and 0 < self.target_accept < 1):
            raise InputError(
                "target_ess and target_accept between 0 and 1", f"{self.target_ess}, {self.target_accept}", "use .5, .8"
            )

    def init(self, target: Density, data: Data | None, rng: torch.Generator, start: Start) -> SMCState:
        """Draw the particles from the prior."""
        prior = _prior_of(target)
        if self.move == "elliptical" and not prior.gaussian:
            raise InputError("a Gaussian prior for elliptical slice moves", type(prior).__name__, "use move='hmc'")
        like, m = target.params(), start.members
        check_room(self.particles, m, count(like), next(iter(like.values())), hint="take fewer particles")
        full = flat_density(target, data, like, rng)
        alone = flat_density(LogDensity(prior.log_prob, like), None, like, rng)
        positions = flatten(prior.sample(like, m * self.particles, rng), batch_dims=1)
        values = _log_likelihood(target, full, positions, like).unflatten(0, (m, -1))
        zero = torch.zeros(m, dtype=torch.float64)
        # The scale at which Hamiltonian moves are accepted shrinks with the fourth root of the dimension.
        step = torch.full((m,), 0.5 * positions.shape[1] ** -0.25, dtype=torch.float64)
        return SMCState(positions.unflatten(0, (m, -1)), values, zero, zero, step, data, full, alone, like)

    def step(self, target: Density, state: SMCState, batch: Batch, rng: torch.Generator) -> tuple[SMCState, Info]:
        """Let some of the likelihood enter, draw the particles again, and move them."""
        log_likelihood = state.log_likelihood.nan_to_num(-math.inf, neginf=-math.inf)
        beta = _next_beta(log_likelihood, state.beta, self.target_ess)
        weights = (beta - state.beta)[:, None] * log_likelihood
        evidence = state.log_evidence + weights.logsumexp(1) - math.log(self.particles)
        index = _systematic(weights.softmax(1), rng)
        positions = torch.take_along_dim(state.positions, index[..., None].to(state.positions.device), 1)
        if self.move == "hmc":
            positions, step_size, accept = self._hamiltonian(state, positions, beta, rng)
        else:
            chosen = torch.take_along_dim(log_likelihood, index, 1)
            positions, accept = self._elliptical(target, state, positions, chosen, beta, rng)
            step_size = state.step_size
        values = _log_likelihood(target, state.full, positions.flatten(0, 1), state.like).unflatten(
            0, positions.shape[:2]
        )
        after = SMCState(positions, values, beta, evidence, step_size, state.data, state.full, state.prior, state.like)
        n = 1 if state.data is None else state.data.n
        metrics = {"beta": float(beta.min()), "log_evidence": float(evidence.mean()), "accept": accept}
        return after, Info(-float(values.mean()) / n, metrics, done=bool((beta >= 1).all()))

    def posterior(self, target: Density, state: SMCState) -> Draws:
        """The particles; their ``stats`` hold every population's ``log_evidence`` (see `log_mean`)."""
        warnings: list[str] = []
        if bool((state.beta < 1).any()):
            warnings.append(
                f"only {float(state.beta.min()):.3g} of the likelihood entered: these are not draws of the posterior, "
                "and there is no evidence. Take more steps"
            )
        if len(state.beta) == 1:
            warnings.append("one population: the error of its evidence is not known. Use chains=4 or more")
        flat = state.positions.transpose(0, 1)
        logs = (state.log_likelihood + _log_prior(state)).T
        recorder = Recorder(flat, logs.to(flat.dtype), len(flat), 0, 1)
        stats = {"log_evidence": state.log_evidence, "beta": state.beta}
        return draws_of(target, recorder, state.data, stats=stats, warnings=warnings)

    def _hamiltonian(
        self, state: SMCState, positions: Tensor, beta: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, float]:
        m, n, p = positions.shape
        potential = _tempered(state)
        spread = positions.std(1).square().mean(0).sqrt().clamp(min=torch.finfo(positions.dtype).tiny)
        # Each row's β travels as a coordinate that does not move.
        mass = DiagonalMass(torch.cat([spread, spread.new_zeros(1)]))
        rows = torch.cat([positions, beta[:, None, None].to(positions).expand(m, n, 1)], -1).flatten(0, 1)
        place, step_size, accepted = place_at(potential, rows), state.step_size, []
        for _ in range(self.moves):
            moved = hmc(
                potential,
                place,
                step_size.repeat_interleave(n).to(rows),
                mass,
                rng,
                leapfrogs=self.leapfrogs,
                jitter=0.5,
            )
            rate = moved.accept.unflatten(0, (m, n)).mean(1).cpu()
            step_size = (step_size * torch.exp(rate - self.target_accept)).clamp(max=1.5)
            accepted.append(float(rate.mean()))
            place = moved.place
        return place.position[:, :p].unflatten(0, (m, n)), step_size, sum(accepted) / len(accepted)

    def _elliptical(
        self,
        target: Density,
        state: SMCState,
        positions: Tensor,
        log_likelihood: Tensor,
        beta: Tensor,
        rng: torch.Generator,
    ) -> tuple[Tensor, float]:
        m, n, _ = positions.shape
        q, current, prior = positions.flatten(0, 1), log_likelihood.flatten(), _prior_of(target)
        level = beta.repeat_interleave(n)
        arc, tried = torch.full_like(level, MOST), 0

        def of(q: Tensor) -> Tensor:
            return _log_likelihood(target, state.full, q, state.like)

        for _ in range(self.moves):
            floor = current + torch.rand(len(q), generator=rng, dtype=torch.float64).log() / level
            q, current, spent, _ = elliptical(prior, state.like, q, current, floor, arc, of, rng)
            tried += spent
        return q.unflatten(0, (m, n)), self.moves * len(q) / tried


def log_mean(logs: Tensor) -> tuple[float, float]:
    """The logarithm of the mean of independent unbiased estimates, and its standard error.

    With so many temperatures or levels that each counts for little, estimates of populations are log-normal: with s the
    spread of their logarithms, the truth is ``s²/2`` above the mean of these. The error is that of the mean and of
    ``s²/2``, ``√(s²/M + s⁴/2(M−1))``, times the ratio of the 97.5 % quantiles of Student's t with M − 1 degrees of
    freedom and of the normal distribution, so that ± 1.96 standard errors are a 95 % interval although the spread of
    few estimates is itself uncertain. The spread of the estimates themselves would be too small an error, as the rare
    large ones that make up their mean are seldom among few. Only where some are zero, s² is that of log-normal numbers
    of their relative variance.

    References:
        A lognormal central limit theorem for particle approximations of normalizing constants. J. Bérard, P. Del Moral,
        A. Doucet, 2014. arXiv:1307.0181.
        An evaluation of approximate confidence interval estimation methods for lognormal means. C. E. Land, 1972
        (the error is what he calls Cox's).

    Args:
        logs: Logarithms of the estimates, shape ``(M,)``.

    Returns:
        The value, and its standard error, NaN for a single one.

    Example:
        >>> value, stderr = log_mean(torch.tensor([0.0, 0.0], dtype=torch.float64))
        >>> value, stderr
        (0.0, 0.0)
    """
    m = len(logs)
    value = float(logs.logsumexp(0)) - math.log(m)
    if m == 1:
        return value, math.nan
    wider = float(student_t.ppf(0.975, m - 1)) / 1.959963984540054
    s2 = float(logs.var() if torch.isfinite(logs).all() else (logs - value).exp().var().log1p())
    return value, math.sqrt(s2 / m + s2**2 / (2 * (m - 1))) * wider


def _prior_of(target: Density) -> Prior:
    if isinstance(target, Target) and target.temperature != 1.0:
        raise InputError(
            "temperature=1 for SMC, which starts from the prior itself",
            f"{target.temperature:g}",
            "temper the likelihood alone (likelihood_temperature=), or sample with NUTS",
        )
    if target.prior is None:
        raise InputError(
            "a prior to start from",
            "a plain log-density without one",
            "pass nv.LogDensity(log_likelihood, init, prior=…)",
        )
    return target.prior


def _log_likelihood(target: Density, full: FlatDensity, q: Tensor, like: Params) -> Tensor:
    # What enters with β: of every row, without gradients, in chunks; float64.
    def of_data(w: Params) -> Tensor:
        assert isinstance(target, Target)
        fits = [target.likelihood.log_prob(target.forward.average(w, xs), y).sum() for xs, y in full.parts]
        return torch.stack(fits).sum() / target.likelihood_temperature

    function: Callable[[Params], Tensor] = target.function if isinstance(target, LogDensity) else of_data
    params = unflatten(q, like)
    rows = sum(len(xs) * xs.shape[1] for xs, _ in full.parts) if isinstance(target, Target) else 1

    def of_chunk(start: int, stop: int) -> Tensor:
        return over_members(function, part_of(params, start, stop), target.notes)

    with torch.no_grad():
        return torch.cat(in_chunks(of_chunk, len(q), chunk_of(params, rows), target.notes, rows)).double().cpu()


def _tempered(state: SMCState) -> Potential:
    # Rows are (position, β); the density is the prior times the likelihood to the power β.
    def potential(rows: Tensor) -> tuple[Tensor, Tensor]:
        q, beta = rows[:, :-1], rows[:, -1]
        prior, prior_gradient = (v.clone() for v in state.prior(q))
        full, gradient = state.full(q)
        value = prior + beta * (full - prior)
        slope = prior_gradient + beta[:, None] * (gradient - prior_gradient)
        return value, torch.cat([slope, slope.new_zeros(len(slope), 1)], 1)

    return potential


def _log_prior(state: SMCState) -> Tensor:
    return state.prior(state.positions.flatten(0, 1))[0].unflatten(0, state.positions.shape[:2]).double().cpu()


def _next_beta(log_likelihood: Tensor, beta: Tensor, share: float) -> Tensor:
    # The largest β' that leaves the weights an effective share of the particles, by bisection.
    def ess(candidate: Tensor) -> Tensor:
        w = ((candidate - beta)[:, None] * log_likelihood).nan_to_num(0.0, neginf=-math.inf).softmax(1)
        return 1 / w.square().sum(1) / w.shape[1]

    low, high = beta.clone(), torch.ones_like(beta)
    enough = ess(high) >= share
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        ok = ess(middle) >= share
        low, high = torch.where(ok, middle, low), torch.where(ok, high, middle)
    return torch.where(enough, torch.ones_like(beta), low)


def _systematic(weights: Tensor, rng: torch.Generator) -> Tensor:
    # One uniform number a population, and evenly spaced points through the cumulated weights.
    m, n = weights.shape
    u = torch.rand(m, 1, generator=rng, dtype=torch.float64)
    points = (torch.arange(n, dtype=torch.float64) + u) / n
    return torch.searchsorted(weights.cumsum(1), points).clamp(max=n - 1)
