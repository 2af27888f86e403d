"""`restore`: an image from a damaged one, by the prior over functions that an untrained network has.

An encoder–decoder draws the image from fixed noise. Its weights are fitted to the observed pixels: natural structure is
learned before noise, so fitting is stopped, by pixels that are held out (a twentieth) and never by the truth. Their
error is ``V = σ² + E e²``; with the residuals of the fitted ones it tells how far these follow their own noise, and so
how far they are from the truth (`novacula.study.restoring.observing`). From there Langevin dynamics draws weights of
the posterior under Gaussian noise of the estimated size and a prior of the size that each tensor starts with, and the
images of the draws are averaged. That average or the stopped one is given, whichever has the smaller risk.

How sure is a pixel? The draws say where the image is doubtful, the risk how much: the draws' variance, half of it
shared evenly, is scaled to it, apart for pixels that were fitted and for others. The risk is itself known from few
pixels, with a relative error c: like a variance with ``ν = 2/c²`` degrees of freedom, and errors are as wide as a
Student t with so many, whose variance is ``ν/(ν − 2)`` times as large.

References:
    Deep image prior. D. Ulyanov, A. Vedaldi, V. Lempitsky, 2018. arXiv:1711.10925.
    A Bayesian perspective on the deep image prior. Z. Cheng, M. Gadelha, S. Maji, D. Sheldon, 2019. arXiv:1904.07457.
    A widely applicable Bayesian information criterion. S. Watanabe, 2013. arXiv:1208.6338.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from novacula.core.checks.numbers import check_numbers, check_positive, check_whole, check_within
from novacula.core.errors import InputError
from novacula.core.params import Params, unstack
from novacula.core.rng import derive, generator, global_draws
from novacula.inference import SGLD, infer
from novacula.posteriors.base import Posterior
from novacula.study.restoring.network import Hourglass
from novacula.study.restoring.observing import Problem, Seen, observed
from novacula.study.restoring.result import Restored
from novacula.study.restoring.stopping import Watched
from novacula.target import LogDensity

_CODE, _SIDE = 8, 8  # channels of the noise, and the least side of an image


def restore(
    image: Any,
    task: Problem = "denoise",
    *,
    mask: Any = None,
    factor: int = 2,
    noise: float | None = None,
    network: nn.Module | None = None,
    code: Tensor | None = None,
    steps: int = 2_000,
    patience: int = 300,
    lr: float = 1e-2,
    draws: int = 20,
    every: int = 10,
    hold_out: float = 0.05,
    evidence: bool = False,
    seed: int = 0,
    watch: Callable[[Tensor], object] | None = None,
) -> Restored:
    """Restore an image.

    Args:
        image: Shape ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)`` with C of 1 or 3, between 0 and 1.
        task: ``"denoise"``; ``"inpaint"``, where a mask says which pixels are known; or ``"superres"``, where the image
            is taken for averages over squares of ``factor`` pixels.
        mask: For inpainting: True where pixels are known, ``(H, W)``.
        factor: For superresolution: pixels a side.
        noise: The noise's standard deviation where it is known; by default it is estimated from the image.
        network: Any encoder–decoder from ``(1, k, H, W)`` to ``(1, C, H, W)``, before a sigmoid; its weights are the
            start. By default a small hourglass.
        code: The noise that goes in, ``(1, k, H, W)``; needed with a network that takes other than 8 channels.
        steps: The most steps of fitting.
        patience: Steps without gain on the pixels held out after which it is stopped.
        lr: Its learning rate.
        draws: Draws of the posterior that are averaged; 0 for none, and no intervals beyond an even width.
        every: Langevin steps between draws.
        hold_out: The share of known pixels that are held out.
        evidence: Whether to estimate the log evidence too (as many steps again).
        seed: Seed of everything random.
        watch: Called with the image on the way, every ten steps.

    Returns:
        The image, its pixels' standard deviations, and what was seen on the way.

    Raises:
        InputError: If the image, mask or a number is not what it must be, or the network gives no such image.

    Example:
        >>> import novacula as nv
        >>> grey = torch.linspace(0, 1, 32).expand(32, 32) + 0.1 * torch.randn(32, 32)
        >>> found = nv.restore(grey.clamp(0, 1), steps=60, draws=4)
        >>> found.image.shape
        torch.Size([1, 32, 32])
    """
    check_numbers(steps=steps, seed=seed)
    for name, value in (("patience", patience), ("every", every), ("factor", factor)):
        check_whole(name, value)
    check_whole("draws", draws, least=0)
    check_positive("lr", lr)
    check_within("hold_out", hold_out, 0.0, 0.5)
    if noise is not None:
        check_positive("noise", noise)
    y = _image(image)
    given = None if mask is None else torch.as_tensor(mask)
    seen = observed(y, task, given, factor, noise, hold_out, seed)
    side = tuple(s * seen.factor for s in y.shape[-2:])
    if code is None:
        code = torch.rand(1, _CODE, *side, generator=generator(seed, "code")) * 0.1
    net = _network(seed, y.shape[0]) if network is None else network
    draw, weights = _drawing(net, code, (y.shape[0], *side))
    method = Watched(draw, seen, lr, patience, watch)
    start = LogDensity(_density(draw, seen, _scales(weights), 1.0), weights)
    point = infer(method, start, steps=steps, seed=derive(seed, "fit"))
    fitting = method.states[0]
    assert fitting.best is not None
    images, wbic = _sampled(draw, seen, weights, dict(point.mode), draws, every, derive(seed, "draws")), None
    if evidence:
        count = int(seen.fitted.sum()) * y.shape[0]
        hot = LogDensity(_density(draw, seen, _scales(weights), 1 / math.log(count)), dict(point.mode))
        kept = infer(SGLD(precondition=True, keep=10), hot, steps=max(100, 10 * every), seed=derive(seed, "wbic"))
        wbic = -sum(float(_fit(draw(w), seen).detach()) for w in _weights(kept)) / max(1, kept.size or 1)
    return _judged(fitting.best, images, seen, fitting.trace, fitting.at, wbic)


def _image(image: Any) -> Tensor:
    y = torch.as_tensor(image)
    y = y.float() if y.is_floating_point() else y.float() / 255
    if y.ndim == 2:
        y = y.unsqueeze(0)
    if y.ndim == 3 and y.shape[0] not in {1, 3} and y.shape[2] in {1, 3}:
        y = y.permute(2, 0, 1)
    if y.ndim != 3 or y.shape[0] not in {1, 3} or min(y.shape[1:]) < _SIDE:
        raise InputError(
            "an image (H, W) or (C, H, W), of 1 or 3 channels", f"shape {tuple(y.shape)}", "pass one image"
        )
    if not bool(torch.isfinite(y).all()) or float(y.min()) < -1 or float(y.max()) > 2:
        raise InputError(
            "values between 0 and 1, or noise about them", f"{float(y.min()):g} to {float(y.max()):g}", "y/255"
        )
    return y.contiguous()


def _network(seed: int, channels: int) -> nn.Module:
    with global_draws(seed=derive(seed, "network")):
        return Hourglass(_CODE, channels)


def _drawing(net: nn.Module, code: Tensor, shape: tuple[int, ...]) -> tuple[Callable[[Params], Tensor], Params]:
    # The image of weights, and the weights as they came.
    weights = {k: w.detach().clone() for k, w in net.named_parameters()}

    def draw(params: Params) -> Tensor:
        return functional_call(net, params, (code,))[0].sigmoid()

    try:
        with torch.no_grad():
            made = draw(weights).shape
    except RuntimeError as error:
        raise InputError(
            f"a network for inputs {tuple(code.shape)}", str(error).split("\n")[0], "pass code="
        ) from error
    if tuple(made) != shape:
        raise InputError(f"a network whose output has the shape {(1, *shape)}", f"{(1, *made)}", "check its last layer")
    return draw, weights


def _scales(weights: Params) -> Params:
    # The precision of each tensor: one over the mean square with which it starts, and one where it starts at nought.
    squares = {k: float(w.double().square().mean()) for k, w in weights.items()}
    return {k: torch.tensor(1 / s if s > 1e-12 else 1.0) for k, s in squares.items()}


def _fit(image: Tensor, seen: Seen) -> Tensor:
    # The log-likelihood of the fitted pixels.
    count = seen.fitted.sum() * seen.y.shape[0]
    constant = math.log(seen.noise) + 0.5 * math.log(2 * math.pi)
    return -count * (seen.error(image, seen.fitted) / (2 * seen.noise**2) + constant)


def _density(
    draw: Callable[[Params], Tensor], seen: Seen, precision: Params, power: float
) -> Callable[[Params], Tensor]:
    def log_density(params: Params) -> Tensor:
        prior = torch.stack([-0.5 * precision[k] * w.square().sum() for k, w in params.items()]).sum()
        return power * _fit(draw(params), seen) + prior

    return log_density


@torch.no_grad()
def _sampled(
    draw: Callable[[Params], Tensor], seen: Seen, weights: Params, start: Params, draws: int, every: int, seed: int
) -> Tensor:
    # Images of draws that follow the stopped weights.
    if draws == 0:
        return draw(start).unsqueeze(0)[:0]
    method = SGLD(precondition=True, warmup=5 * every, keep=draws)
    density = LogDensity(_density(draw, seen, _scales(weights), 1.0), start)
    found = infer(method, density, steps=(draws + 5) * every, seed=seed)
    return torch.stack([draw(w) for w in _weights(found)])


def _weights(found: Posterior) -> list[Params]:
    # The weights of each draw.
    return unstack(found.sample(found.size or 1, generator(0, "all")))


def _judged(
    stopped: Tensor, images: Tensor, seen: Seen, trace: tuple[float, ...], step: int, wbic: float | None
) -> Restored:
    errors, found, kept, said = {"stopped": seen.risk(stopped)}, stopped, "stopped", []
    spread = torch.ones_like(stopped)
    if len(images):
        average = images.mean(0)
        errors["draws"] = seen.risk(average)
        if errors["draws"] < errors["stopped"]:
            found, kept = average, "draws"
        spread = images.var(0) if len(images) > 1 else spread
    least, variance = 0.02 * seen.noise**2, torch.zeros_like(found)
    parts = zip(seen.risks(found), seen.doubts(found), (seen.fitted, ~seen.fitted), strict=True)
    for risk, doubt, where in parts:
        if risk <= least:
            said.append("pixels err no more than the noise that was assumed: it is too high, or intervals too narrow")
        part = where.to(spread).repeat_interleave(seen.factor, -1).repeat_interleave(seen.factor, -2)
        mean = (spread * part).sum() / (part.sum() * len(spread)).clamp(min=1)
        mass = max(risk, least)
        wider = 1 / (1 - min((doubt / mass) ** 2, 2 / 3))  # ν / (ν − 2), of three degrees of freedom or more
        variance += part * mass * wider * 0.5 * (1 + spread / mean.clamp(min=1e-12))
    said = tuple(dict.fromkeys(said))
    return Restored(found, variance.sqrt(), kept, stopped, images, seen.noise, step, trace, errors, wbic, said)
