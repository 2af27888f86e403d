"""Moves for multilevel splitting, on networks whose fit is rare.

    python -m benchmarks.moves [--rare]

A network 7-40-40-1 and 40 of the words of seven bits, labelled by tosses of a coin; eight populations, whose standard
deviation of log10 P is what a move is judged by; with `--rare` the library's alone, on other numbers of words.
`following` is the library's, along which the last layer follows what is beneath. `elliptical` moves all weights, as
where no such layer is found. `blocks` turns some of the weights
alone, between one and all of them, evenly on a logarithmic scale. `reflecting` follows the rotation that leaves the
prior as it is, in five steps, and mirrors its direction where it is outside of the level, by the gradient of the level
there; a path that ends inside is taken (Skilling, 2012). `tempered` has no levels: `nv.evidence.Annealing` softens the
constraint, and its networks move by elliptical slices or by Hamiltonian paths. `exchanging` keeps one network at each
of the levels that a first run passed, so that all levels are visited alike; they move by Gaussian steps, each level's
of a length of its own, and neighbours that may change places do, so that networks return to the prior and come back.
Rows are written down as they come.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.many import over_members
from novacula.core.params import Params, flatten, unflatten
from novacula.core.rng import generator
from novacula.evidence import Annealing
from novacula.inference import Splitting
from novacula.inference.method import Start
from novacula.inference.particles.splitting import method, moves
from novacula.posteriors.draws import Draws
from novacula.priors.base import Prior
from novacula.target.margins import FITS, closeness_of, margins

RESULT = Path(__file__).parent / "results" / "moves.json"
STEPS, MOST = 5, 0.5
LEVELS = 100
Move = Callable[[Prior, Params, Tensor, Tensor, Tensor, Tensor, moves.Score, torch.Generator], Any]


def case(n: int = 40) -> tuple[nv.Target, nv.Data]:
    """The network, and words with coins for labels."""
    x = nv.functions.cube(7)[torch.randperm(128, generator=generator(0, "words"))[:n]]
    y = (torch.rand(n, generator=generator(5, "coins")) < 0.5).float()
    net = nn.Sequential(nn.Linear(7, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    return nv.Target(net, prior=nv.FanIn(), likelihood=nv.Bernoulli()), nv.Data(x, y[:, None], task="multilabel")


def blocks(
    prior: Prior,
    like: Params,
    q: Tensor,
    score: Tensor,
    level: Tensor,
    arc: Tensor,
    of: moves.Score,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor, int, Tensor]:
    """An elliptical move of some of the weights: the library's, for all but those that stay."""
    chance = (torch.rand(len(q), 1, generator=rng) * math.log(1 / q.shape[1])).exp()
    turning = torch.rand(q.shape, generator=rng) < chance
    place = torch.arange(len(q))

    def partly(proposed: Tensor) -> Tensor:
        # The move asks for rows that are not settled, in their order: of these, all but the block is as it was.
        nonlocal place
        mixed = torch.where(turning[place], proposed, q[place])
        value = of(mixed)
        place = place[~(value > level[place])]
        return value

    found, value, spent, tried = moves.elliptical(prior, like, q, score, level, arc, partly, rng)
    return torch.where(turning, found, q), value, spent, tried


def reflecting(target: nv.Target, data: nv.Data) -> Move:
    """Paths that are mirrored at the level."""

    def slopes(q: Tensor, like: Params) -> Tensor:
        with torch.enable_grad():
            w = {k: v.detach().requires_grad_() for k, v in unflatten(q, like).items()}
            f = over_members(lambda p: target.forward(p, data.x), w, target.notes)
            near = -(-margins(f, data.y)).clamp(min=0).mean(1) / f.square().mean((1, 2)).sqrt()
            return flatten(dict(zip(w, torch.autograd.grad(near.sum(), list(w.values())), strict=True)), batch_dims=1)

    def move(
        prior: Prior,
        like: Params,
        q: Tensor,
        score: Tensor,
        level: Tensor,
        arc: Tensor,
        of: moves.Score,
        rng: torch.Generator,
    ) -> tuple[Tensor, Tensor, int, Tensor]:
        sd = moves.deviations(prior, like)
        z, v = q / sd, torch.randn(q.shape, generator=rng)
        turn = arc.clamp(max=MOST)[:, None].to(q) * (0.5 + torch.rand(len(q), 1, generator=rng))
        value = score
        for _ in range(STEPS):
            z, v = z * turn.cos() + v * turn.sin(), v * turn.cos() - z * turn.sin()
            value = of(z * sd)
            out = (~(value > level)).nonzero()[:, 0]
            if len(out):
                g = slopes(z[out] * sd, like) * sd
                g = g / g.norm(dim=1, keepdim=True).clamp(min=1e-30)
                v[out] -= 2 * (v[out] * g).sum(1, keepdim=True) * g
        inside = value > level
        tried = 2.5 - (inside.double() - 0.65)  # of which the next arc is made
        return torch.where(inside[:, None], z * sd, q), torch.where(inside, value, score), STEPS * len(q), tried

    return move


def tempered(method: nv.SMC) -> dict[str, Any]:
    """Eight populations through a softened constraint, which is hardened until a tenth of each fits."""
    began, (target, data) = time.process_time(), case()
    strength, logs, share = 32.0, torch.zeros(8), torch.zeros(8)
    while float(share.min()) < 0.1 and strength < 2_000:
        strength *= 2
        logs, share = Annealing(populations=8, method=method)._run(target, data, strength, int(strength))
    row = summed(logs + share.log(), float(share.min()) >= 0.1, None, began)
    return {"particles": method.particles, "moves": method.moves, "strength": strength, **row}


def exchanging(pilots: int, sweeps: int) -> dict[str, Any]:
    """Eight ladders of one network at each level, and the share of the time that each is above the next level."""
    began, rng = time.process_time(), generator(0, "exchange")
    target, data = case()
    like, split = target.params(), Splitting(pilots, 2)
    start = Start({k: w.expand(8, *w.shape) for k, w in like.items()}, LEVELS)
    state = split.init(target, data, rng, start)
    seen = [(state.level, state.positions[:, 0].clone(), state.score[:, 0])]
    for _ in range(LEVELS):  # some populations are caught on the way, and the others are not to wait for them
        state, _ = split.step(target, state, cast("Any", None), rng)
        seen.append((state.level, state.positions[:, 0].clone(), state.score[:, 0]))
    # Levels are those of the first population that came to a fit, the last one; ladders start with its networks and
    # with those of others that did.
    fitting = (state.score == FITS).all(1).nonzero()[:, 0].tolist()
    levels = torch.stack([level[fitting[0]] for level, _, _ in seen]).unique()  # ascending, from minus infinity
    levels[-1] = 0.0
    own = [fitting[g % len(fitting)] for g in range(8)]
    first = [[next(q[g] for _, q, near in seen if near[g] > bound) for bound in levels[:-1]] for g in own]
    q = torch.stack([torch.stack(row) for row in first]).flatten(0, 1)
    k, sd, evaluations = len(levels) - 1, moves.deviations(target.prior, like), int(state.evaluations)
    above, score = levels[:-1].repeat(8), closeness_of(target, unflatten(q, like), data, seed=0)
    turn, counts = torch.full((k,), 0.3, dtype=torch.float64), torch.zeros(8, k, dtype=torch.float64)
    for sweep in range(sweeps):
        angle = turn.repeat(8)[:, None].to(q)
        proposed = q * angle.cos() + sd * torch.randn(q.shape, generator=rng) * angle.sin()
        value = closeness_of(target, unflatten(proposed, like), data, seed=0)
        taken = value > above
        q, score = torch.where(taken[:, None], proposed, q), torch.where(taken, value, score)
        evaluations += len(q)
        if sweep < sweeps // 2:  # the lengths of steps and the start are forgotten
            turn = (turn * (0.2 * (taken.double().view(8, k).mean(0) - 0.3)).exp()).clamp(1e-3, math.pi / 2)
        order = torch.arange(8 * k).view(8, k)
        for low in range(sweep % 2, k - 1, 2):
            fits = score.view(8, k)[:, low] > levels[low + 1]
            order[fits, low], order[fits, low + 1] = order[fits, low + 1], order[fits, low]
        q, score = q[order.flatten()], score[order.flatten()]
        if sweep >= sweeps // 2:
            counts += score.view(8, k) > levels[1:]
    logs = (counts / (sweeps - sweeps // 2)).log().sum(1)
    return {"levels": k, "sweeps": sweeps, **summed(logs, bool(torch.isfinite(logs).all()), evaluations, began)}


def summed(logs: Tensor, reached: bool, evaluations: float | None, began: float) -> dict[str, Any]:
    """Eight estimates in nats, in dex."""
    dex = logs / math.log(10)
    return {
        "log10": float(torch.logsumexp(logs, 0) - math.log(8)) / math.log(10),
        "each": dex.tolist(),
        "sd": float(dex.std()),
        "reached": reached,
        "evaluations": evaluations,
        "cpu_seconds": time.process_time() - began,
    }


class Nothing:
    """In place of the moves along which the last layer follows."""

    @classmethod
    def of(cls, *_: object, **__: object) -> None:
        """None."""


def measured(move: Move | None, particles: int, times: int, n: int = 40) -> dict[str, Any]:
    """Eight populations by one kind of moves; None is the library's own."""
    kept, began = (method.elliptical, method.Surrogate), time.process_time()
    if move is not None:
        method.elliptical, method.Surrogate = move, Nothing  # type: ignore[assignment, misc]
    try:
        target, data = case(n)
        post = cast("Draws", nv.infer(Splitting(particles, times), target, data, steps=600, chains=8, seed=0))
    finally:
        method.elliptical, method.Surrogate = kept  # type: ignore[misc]
    logs, reached = post.stats["log_evidence"], bool((post.stats["fits"] == 1).all())
    evaluations = float(post.stats["evaluations"].sum())
    return {"words": n, "particles": particles, "moves": times, **summed(logs, reached, evaluations, began)}


def main() -> None:
    """Measure what is not known yet."""
    torch.set_num_threads(1)
    rare = "--rare" in sys.argv[1:]
    rows: dict[str, Any] = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else {}
    plans: dict[str, Callable[[], dict[str, Any]]] = {
        "following": lambda: measured(None, 50, 3),
        "elliptical": lambda: measured(moves.elliptical, 50, 8),
        "elliptical, fewer moves of more networks": lambda: measured(moves.elliptical, 200, 2),
        "reflecting": lambda: measured(reflecting(*case()), 50, 4),
        "blocks": lambda: measured(blocks, 50, 8),
        "exchanging": lambda: exchanging(50, 800),
        "tempered, elliptical": lambda: tempered(nv.SMC(50, "elliptical", moves=8)),
        "tempered, Hamiltonian": lambda: tempered(nv.SMC(50, "hmc", moves=2, leapfrogs=5)),
    }
    if rare:
        plans = {f"following, {n} words": partial(measured, None, 50, 4, n) for n in (33, 72, 55)}
    for name, plan in plans.items():
        if name not in rows:
            rows[name] = plan()
            print(name, rows[name], flush=True)
            write(RESULT, {"environment": environment(), "rows": rows})


if __name__ == "__main__":
    main()
