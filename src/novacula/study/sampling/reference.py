"""Draws of the posterior of zero training error: the prior restricted to networks that fit, or to wide ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np
import torch

from novacula.core.errors import InputError
from novacula.core.params import Params, unflatten
from novacula.core.rng import derive, generator
from novacula.evidence.fitting.nngp import wide_kernels
from novacula.functions.samplers.network import Networks
from novacula.functions.samplers.weights import Normals, drawing
from novacula.inference.infer import infer
from novacula.inference.particles.splitting.method import Splitting
from novacula.kernels.orthants.orthant import orthant_draws
from novacula.posteriors.draws import Draws
from novacula.study.sampling.task import Arrays, Functions, Task
from novacula.target.margins import FITS, closeness

By: TypeAlias = Literal["splitting", "rejection", "nngp"]

_POPULATIONS = 8
_LEVELS = 300
_NETWORKS = 4_000  # of a kernel that is no recursion's, at least
_JITTER = 1e-6  # of the mean variance


@dataclass(frozen=True, eq=False)
class Reference:
    """Draws, and what is known about them."""

    by: By  # how they were drawn
    functions: Functions  # what they compute
    # the log-probability that a network of the prior fits, and its error, in nats; NaN if not known
    log_evidence: tuple[float, float]
    said: tuple[str, ...]  # what is to be said about them


def reference(
    task: Task, by: By, draws: int, most: int, moves: int, *, seed: int, progress: Callable[[int, int], None]
) -> Reference:
    """Draw networks that fit."""
    ways = {"splitting": _split, "rejection": _rejected, "nngp": _processes}
    if by not in ways:
        raise InputError(f"by among {', '.join(ways)}", repr(by), "by='splitting'")
    settings = {"kind": by, "draws": draws, "most": most, "moves": moves, "seed": seed}
    found = task.kept(settings, lambda: ways[by](task, draws, most, moves, seed, progress))
    functions = Functions(found["labels"], found["margins"], found["population"])
    return Reference(by, functions, (float(found["log"][0]), float(found["log"][1])), tuple(map(str, found["said"])))


def _packed(functions: Functions, log: float, error: float, said: list[str]) -> Arrays:
    arrays = {"labels": functions.labels, "margins": functions.margins, "population": functions.population}
    return {**arrays, "log": np.array([log, error]), "said": np.array(said, dtype=np.str_)}


def _split(task: Task, draws: int, most: int, moves: int, seed: int, progress: Callable[[int, int], None]) -> Arrays:
    method = Splitting(particles=max(4, -(-draws // _POPULATIONS)), moves=moves)
    found = infer(
        method,
        task.target,
        task.data,
        steps=_LEVELS,
        chains=_POPULATIONS,
        seed=derive(seed, "splitting"),
        progress=lambda done, of, _: progress(done, of),
    )
    post = cast("Draws", found)  # as the method says
    if not bool((post.stats["fits"] == 1).all()):
        got = f"none within {_LEVELS} levels: as rare as e^{float(post.stats['log_evidence'].mean()):.0f}"
        raise InputError("networks of the prior that fit", got, "fewer training examples, or another prior")
    logs = post.stats["log_evidence"].numpy()
    flat = post.flat.transpose(0, 1)  # ``(M, N, P)``
    functions = task.functions(unflatten(flat.flatten(0, 1), post.like), np.repeat(np.arange(len(flat)), flat.shape[1]))
    spread = float(logs.std(ddof=1))
    said = [f"populations disagree by {spread:.2g} nats: more moves"] if spread > 0.7 else []
    return _packed(functions, float(np.logaddexp.reduce(logs) - np.log(len(logs))), spread / len(logs) ** 0.5, said)


@torch.no_grad()
def _rejected(task: Task, draws: int, most: int, moves: int, seed: int, progress: Callable[[int, int], None]) -> Arrays:
    target, own = task.target, task.target.params()
    networks = Networks(target.forward.module, target.prior)
    draw, evaluate = drawing(target.prior, target.forward.module, own), networks.evaluation(task.data.x)
    source, size = Normals(generator(seed, "rejection")), networks.at_once(task.data.x)
    parts: list[Functions] = []
    tried = hits = 0
    while hits < draws and tried < most:
        weights = draw(min(size, most - tried), source)
        fits = closeness(evaluate(weights).transpose(1, 2), task.data.y) == FITS
        tried += len(fits)
        if bool(fits.any()):
            kept: Params = {k: w[fits] for k, w in weights.items()}
            parts.append(task.functions(kept))
            hits += len(parts[-1])
            progress(min(hits, draws), draws)
    if hits < 2:
        got = f"{hits} among {tried:,} networks"
        raise InputError("two networks of the prior that fit", got, "by='splitting', or a larger most=")
    said = [] if hits >= draws else [f"only {hits} of {tried:,} networks fit"]
    return _packed(Functions.joined(parts), float(np.log(hits / tried)), hits**-0.5, said)


def _processes(
    task: Task, draws: int, most: int, moves: int, seed: int, progress: Callable[[int, int], None]
) -> Arrays:
    # Outputs on the training inputs given their signs, then on the others given these.
    n, y = task.data.n, task.data.y
    if y.ndim != 2 or y.shape[1] != 1:
        raise InputError("a network with one output for by='nngp'", f"{task.classes} classes", "by='splitting'")
    x = torch.cat([task.data.x, task.x])
    kernels, said = wide_kernels(task.target, x, 1, max(_NETWORKS, 4 * len(x)), seed=derive(seed, "nngp"))
    k = kernels[0][:, 0, :, 0].double().cpu()
    k = k + _JITTER * k.diagonal().mean() * torch.eye(len(k), dtype=k.dtype)
    signs = 2 * y.double().cpu().flatten() - 1
    f, log_evidence = orthant_draws(k[:n, :n], signs, draws, seed=derive(seed, "nngp"), most=most)
    slopes = torch.linalg.solve(k[:n, :n], k[:n, n:])
    root = torch.linalg.cholesky(k[n:, n:] - k[n:, :n] @ slopes)
    noise = torch.randn(draws, len(root), generator=generator(seed, "nngp"), dtype=k.dtype)
    labels = (f @ slopes + noise @ root.T > 0).to(torch.uint8).numpy()
    margins = ((f * signs).amin(1) / f.square().mean(1).sqrt()).numpy()
    progress(draws, draws)
    functions = Functions(labels, margins, np.zeros(draws, np.int64))
    return _packed(functions, float(log_evidence), log_evidence.stderr, list(said))
