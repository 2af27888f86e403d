"""The cases in which an early `nv.learn` went wrong, measured again with its defaults.

    python -m benchmarks.again                    # about twenty minutes on one core
    python -m benchmarks.again --only thousands   # one
    python -m benchmarks.again --summary

What came then, and what was possible or true, stands beside what comes now. Cases that other benchmarks measure as they
were (MNIST, CIFAR-10 and UCI tables) are left to them. One entry a case in ``results/again.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from benchmarks.mnist import fixed
from novacula.invariances.perturb import parse, perturb
from novacula.study.controls.control import Part
from novacula.study.controls.trees import trees

RESULT = Path(__file__).parent / "results" / "again.json"
Found = dict[str, float | str | bool]


def learned(data: nv.Data, net: nn.Module | None = None, **settings: Any) -> nv.LearnResult:
    """What `nv.learn` says with no option but the ones that a case is about."""
    classes = data.task == "classification"
    network = net or nv.networks.make("mlp", data.x.shape[1:], int(data.y.max()) + 1 if classes else data.y.shape[1])
    likelihood = nv.Categorical() if classes else nv.Normal()
    return nv.learn(nv.Target(network, likelihood=likelihood, invariance=settings.pop("invariance", None)), data)


def tested(fit: nv.LearnResult, test: nv.Data) -> Found:
    """Scores on rows that were put aside, in the target's units."""
    said = nv.predict(fit.posterior, test.x)
    low, high = said.interval(0.9)
    return {
        "rmse": float((said.mean() - test.y).square().mean().sqrt()),
        "log_loss": -float(said.log_prob(test.y).mean()),
        "coverage_90": float(((test.y >= low) & (test.y <= high)).float().mean()),
        "converged": fit.converged,
    }


def parted(x: Tensor, y: Tensor, n: int, task: Any = "regression") -> tuple[nv.Data, nv.Data]:
    """Training rows and the others."""
    y = y.reshape(len(x), -1) if task == "regression" else y
    return nv.Data(x[:n], y[:n], task=task), nv.Data(x[n:], y[n:], task=task)


def table(n: int, columns: int, noise: float) -> tuple[Tensor, Tensor]:
    """Inputs ``(n, columns)`` and a smooth function of five of them, with noise."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, columns, generator=g)
    return x, x[:, :5].tanh().sum(1) + noise * torch.randn(n, generator=g)


def energy() -> Found:
    """The first published split of ``uci-energy``."""
    source = np.load(Path(os.environ["NOVACULA_DATA"]) / "uci-energy.npz")
    held = torch.from_numpy(source["test_index"][0])
    x, y = torch.from_numpy(source["x"]).float(), torch.from_numpy(source["y"]).float().reshape(len(held), -1)
    data, test = (nv.Data(x[rows], y[rows], task="regression") for rows in (~held, held))
    return {**tested(learned(data), test), "rmse_trees": beside(data, test)}


def steep() -> Found:
    """A stand-in for the 308 yachts: the target rises by three orders of magnitude with one of six inputs."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(308, 6, generator=g)
    y = 0.05 * (7 * x[:, 5]).exp() * (1 + 0.3 * x[:, 0] - 0.2 * x[:, 1]) * (0.02 * torch.randn(308, generator=g)).exp()
    data, test = parted(x, y, 277)
    return {**tested(learned(data), test), "rmse_trees": beside(data, test)}


def beside(data: nv.Data, test: nv.Data) -> float:
    """The error of boosted trees on the same rows."""
    said = trees(Part(data, test.x.double(), 1, seed=0))
    return float((said.mean() - test.y).square().mean().sqrt())


def linear() -> Found:
    """A linear model with noise of .001: beside the maximum of its evidence in closed form, in one precision."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=g, dtype=torch.float64)
    y = (x @ torch.randn(5, 1, generator=g, dtype=torch.float64)) + 1e-3 * torch.randn(200, 1, generator=g).double()
    net = nn.Linear(5, 1, bias=False).double()
    fit = nv.learn(nv.Target(net, likelihood=nv.Normal(), prior=nv.Gaussian()), nv.Data(x, y), folds=0)
    values, basis = torch.linalg.eigh(x.T @ x)
    along, left = (basis.T @ x.T @ y)[:, 0], float(y.square().sum())

    def best(log_noise: float, log_scale: float) -> float:
        """Minus the log evidence of y ~ N(0, sigma² + s² x xᵀ)."""
        variance = math.exp(2 * log_noise)
        gain = math.exp(2 * log_scale) / variance
        explained = float((along.square() * gain / (1 + gain * values)).sum())
        volume = 200 * math.log(2 * math.pi * variance) + float((1 + gain * values).log().sum())
        return 0.5 * (volume + (left - explained) / variance)

    def profile(log_noise: float) -> float:
        found: Any = minimize_scalar(lambda s: best(log_noise, s), bounds=(-5, 5), method="bounded")
        return float(found.fun)

    top: Any = minimize_scalar(profile, bounds=(-9, -4), method="bounded")
    return {
        "noise": float(fit.hyper["noise"]["value"]),
        "noise_closed_form": math.exp(float(top.x)),
        "evidence": float(fit.evidence.value),
        "evidence_closed_form": -float(top.fun),
    }


def wide() -> Found:
    """100,000 rows of 20 columns, residuals of .508."""
    data, test = parted(*table(110_000, 20, 0.508), 100_000)
    return tested(learned(data), test)


def thousands() -> Found:
    """Targets in thousands, from Python: beside the same targets in ones."""
    x, y = table(1_200, 8, 0.3)
    found: Found = {}
    for name, factor in (("ones", 1.0), ("thousands", 1e3)):
        said = tested(learned(parted(x, factor * y, 600)[0]), parted(x, factor * y, 600)[1])
        found |= {f"rmse_{name}": float(said["rmse"]) / factor, f"coverage_90_{name}": said["coverage_90"]}
    return found


def mnist(n: int) -> tuple[nv.Data, nv.Data]:
    """Some upright digits, and 2,000 others."""
    with np.load(Path(os.environ["NOVACULA_DATA"]) / "mnist10k.npz") as saved:
        rows = np.random.default_rng(0).permutation(len(saved["labels"]))
        x = torch.from_numpy(saved["images"][rows]).float()[:, None] / 255
        y = torch.from_numpy(saved["labels"][rows]).long()
    return parted(x[: n + 2_000], y[: n + 2_000], n, "classification")


def turned() -> Found:
    """3,000 digits, each turned by up to a half circle."""
    data, test = mnist(3_000)
    data = nv.Data(perturb(data.x, [parse("rotate=180")], seed=0), data.y)
    images = perturb(test.x, [parse("rotate=180")], seed=1)
    fit = learned(data, nv.networks.make("cnn", (1, 28, 28), 10, seed=0), invariance=nv.Affine())
    said, invariance = nv.predict(fit.posterior, images), fit.target.invariance
    return {
        "rotation_degrees": 0.0 if invariance is None else float(invariance.describe()["rotation_degrees"]),
        "accuracy": float((said.mean().argmax(1) == test.y).double().mean()),
        "log_loss": -float(said.log_prob(test.y).double().mean()),
        "out_of_fold": float(fit.unseen.score()["nll"]),
        "score_share": fit.seconds["score"] / fit.seconds["total"],
    }


def scores() -> Found:
    """800 upright digits at fixed extents and a prior of 1: the order of the scores beside that of the test loss."""
    data, test = mnist(800)
    found: Found = {}
    order: dict[str, list[float]] = {"laplace": [], "prequential": [], "test": []}
    for name, factor in (("none", 0.0), ("mild", 1.0), ("wild", 6.0)):
        invariance = fixed("mild", {})
        assert invariance is not None
        invariance = nv.Affine(eta=factor * invariance.eta) if factor else None
        target = nv.Target(nv.networks.make("cnn", (1, 28, 28), 10, seed=0), invariance=invariance)
        posterior = nv.infer(nv.MAP(lr=4e-3), target, data, steps=1_400, batch_size=50, seed=0)
        said = nv.predict(posterior, test.x)
        laplace = nv.evidence.Laplace(structure="kron")(target, data, posterior, seed=0)
        blocks = nv.evidence.Prequential()(target, data, posterior, seed=0)
        each = (float(laplace.value), float(blocks.value), float(said.log_prob(test.y).double().mean()))
        for key, value in zip(order, each, strict=True):
            order[key].append(value)
            found[f"{key}_{name}"] = value
    for key in ("laplace", "prequential"):
        found[f"{key}_rank_correlation"] = rank_correlation(order[key], order["test"])
    return found


def photographs() -> Found:
    """Three networks on 1,000 photographs: the order of `compare`'s score beside that of the test accuracy."""
    with np.load(Path(os.environ["NOVACULA_DATA"]) / "cifar10-small.npz") as saved:
        rows = np.random.default_rng(0).permutation(len(saved["train_labels"]))[:1_000]
        both = (saved["train_images"][rows], saved["test_images"]), (saved["train_labels"][rows], saved["test_labels"])
    x, held = (torch.from_numpy(v).float().permute(0, 3, 1, 2).contiguous() / 255 for v in both[0])
    y, truth = (torch.from_numpy(v).long() for v in both[1])
    found, order = {}, []
    for name in ("mlp", "cnn", "resnet"):
        fit = nv.learn(nv.networks.make(name, (3, 32, 32), 10, seed=0), nv.Data(x, y), seed=0)
        said = nv.predict(fit.posterior, held)
        loss = -float(said.log_prob(truth).double().mean())
        order.append((float(fit.unseen.score()["nll"]), loss, -float(fit.evidence.value)))
        found |= {f"out_of_fold_{name}": order[-1][0], f"log_loss_{name}": loss, f"evidence_{name}": -order[-1][2]}
        found[f"accuracy_{name}"] = float((said.mean().argmax(1) == truth).double().mean())
    unseen, test, evidence = zip(*order, strict=True)
    return {
        **found,
        "out_of_fold_rank_correlation": rank_correlation(unseen, test),
        "evidence_rank_correlation": rank_correlation(evidence, test),
    }


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's."""
    found: Any = spearmanr(a, b)
    return float(found.statistic)


def signals(noise: float) -> tuple[Tensor, Tensor]:
    """600 signals ``(600, 64)`` of one of four shapes."""
    g, t = torch.Generator().manual_seed(0), torch.arange(64.0) / 64
    y = torch.randint(4, (600,), generator=g)
    shape = torch.stack(
        [
            (-((t - 0.5) / w).square()).exp() * (1 + 0.5 * (2 * torch.pi * f * t).sin())
            for w, f in ((0.05, 3), (0.08, 5), (0.08, 8), (0.12, 5))
        ]
    )
    return shape[y] + noise * torch.randn(600, 64, generator=g), y


def rolled(x: Tensor, steps: Tensor) -> Tensor:
    """Signals moved along their circle by any number of steps, by the phases of their Fourier transform."""
    frequency = torch.fft.rfftfreq(x.shape[-1], device=x.device, dtype=x.dtype)
    turn = torch.exp(-2j * torch.pi * frequency * steps[..., None])
    return torch.fft.irfft(torch.fft.rfft(x) * turn, n=x.shape[-1])


def along(noise: Tensor, eta: Tensor) -> Tensor:
    """Uniform on ±eta."""
    return (2 * noise[..., 0] - 1) * eta[0]


def custom(
    change: Callable[[Tensor, Tensor, Tensor], Tensor], name: str, start: float, true: float, noise: float
) -> Found:
    """What is learned of a transformation of the user's own."""
    x, y = signals(noise)
    x = change(x, torch.rand(len(x), 1, generator=torch.Generator().manual_seed(1)), torch.tensor([true]))
    invariance = nv.Custom(change, eta=torch.tensor([start]), noise_shape=(1,), names=(name,))
    fit = learned(nv.Data(x, y), nv.networks.make("mlp", (64,), 4, seed=0), invariance=invariance)
    said = fit.verdicts[name]
    return {"start": start, "extent": abs(float(said["extent"])), "verdict": said["verdict"], "gain": said["gain"]}


def roll() -> Found:
    """Signals rolled by up to ±12 steps."""
    return custom(lambda x, u, eta: rolled(x, along(u, eta)), "roll", 1.0, 12.0, 0.1)


def gain() -> Found:
    """Signals times the exponential of up to ±.8."""
    return custom(lambda x, u, eta: x * along(u, eta).exp()[..., None], "log_gain", 0.1, 0.8, 0.5)


CASES: dict[str, tuple[Callable[[], Found], str, str]] = {
    "energy": (energy, "RMSE 2.31, log loss 2.31, no warning", "RMSE .42, log loss .56"),
    "steep": (steep, "(308 yachts) RMSE 2.96, trees .49", "better than trees"),
    "linear": (linear, "noise .0115 of .001, evidence 975 nats low", "the closed form"),
    "wide": (wide, "noise .685, 90 % intervals hold 97.6 %", "RMSE .508, 90 %"),
    "thousands": (thousands, "RMSE of a constant, intervals hold .6 %", "as in ones"),
    "turned": (turned, "±130°, .940", "±175°, .953"),
    "scores": (scores, "Laplace: none, mild, wild in the wrong order", "prequential in the right one"),
    "photographs": (photographs, "evidence orders three nets the wrong way round", "the order of the test"),
    "roll": (roll, "6.4 of 12", "12"),
    "gain": (gain, "−.43, 'supported' on +.4 nats", "±.8"),
}


def summary(found: dict[str, Any]) -> str:
    """The table, in Markdown."""
    lines = ["| case | then | possible, or true | now | CPU-s |", "| --- | --- | --- | --- | ---: |"]
    for name, (_, then, possible) in CASES.items():
        if name in found:
            now = ", ".join(
                f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found[name]["now"].items()
            )
            lines.append(f"| {name} | {then} | {possible} | {now} | {found[name]['cpu_seconds']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(RESULT.read_text())["cases"] if RESULT.exists() else {}
    for name, (case, _, _) in {} if options.summary else CASES.items():
        if name != options.only and (options.only or name in found):
            continue
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nv.NovaculaWarning)
            now = case()
        found[name] = {"now": now, "cpu_seconds": time.process_time() - began}
        print(name, found[name], flush=True)
        write(RESULT, {"environment": environment(), "cases": found})
    print(summary(found))


if __name__ == "__main__":
    main()
