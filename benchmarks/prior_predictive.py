"""How sure random networks are of digits, what they hold to be the same, how fast labels change that, and structure.

    python -m benchmarks.prior_predictive [parts]

`scales`: 200 networks with weights ``N(0, a²)`` on 300 digits. `labels`: the same numbers after 0, 10 and 100 labels,
of networks of the posterior. `correlations`: of outputs at 20 images of MNIST and at translations, rotations and
corruptions of them, and at other images. `corruption`: log10 probability that an infinitely wide network, or a Gaussian
process with a squared exponential kernel, has the parity of 300 digits right, by expectation propagation, where a share
of labels is drawn at random. `preprocessed`: test error after layers with random weights. `figure` draws what is known.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scipy.ndimage import rotate
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.rng import generator

RESULT = Path(__file__).parent / "results" / "prior_predictive.json"
NETS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
    ),
}


def scales(data: nv.Data) -> list[dict[str, Any]]:
    """Confidence and class entropy by scale, and the scale at which networks are half sure."""
    rows = []
    for name, make in NETS.items():
        net, x = make(), data.x[:300].reshape(300, 1, 8, 8)
        for a in (0.02, 0.1, 0.3, 1.0, 3.0):
            found = nv.functions.prior_predictive(net, x, prior=nv.priors.Gaussian(precision=a**-2, per="all"))
            rows.append({"net": name, "a": a, **found._asdict()})
            print(rows[-1], flush=True)
        rows.append({"net": name, "half_sure_at": nv.functions.unsaturated_scale(net, x, 50)})
        print(rows[-1], flush=True)
    return rows


def labels() -> list[dict[str, Any]]:
    """How sure networks are after 0, 10 and 100 labels, at a scale where the prior is saturated and one where not."""
    rows, data = [], nv.load("digits")
    known, others = data.split(200, 0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    for a in (0.25, 1.0):
        target = nv.Target(net, prior=nv.priors.Gaussian(precision=a**-2, per="all"))
        for size in (0, 10, 100):
            before = time.process_time()
            method = nv.SMC(particles=40, moves=3)
            found = nv.functions.after_labels(target, known, others.x[:300], (size,), method=method)[size]
            took = time.process_time() - before
            rows.append({"a": a, "labels": size, **found._asdict(), "cpu_seconds": took})
            print(rows[-1], flush=True)
    return rows


IMAGES: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10)),
    "cnn": lambda: nn.Sequential(
        *(nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(784, 10)),
    ),
    "cnn, pooled": lambda: nn.Sequential(
        *(nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    ),
}


def views(x: Tensor, y: Tensor, several: nv.Data) -> dict[str, Tensor]:
    """Other inputs for each image ``(N, 1, 28, 28)``."""

    def turned(degrees: float) -> Tensor:
        return torch.from_numpy(rotate(x.numpy(), degrees, (3, 2), reshape=False, order=1)).to(x)

    def another(same: bool) -> Tensor:
        pool = several.x.reshape(-1, 1, 28, 28)
        return torch.stack([pool[(several.y == k) == same][i] for i, k in enumerate(y.tolist())])

    noise = torch.randn(x.shape, generator=generator(0, "noise"))
    return {
        **{f"translated {k}": x.roll(k, 3) for k in (1, 2, 4, 8)},
        **{f"turned {k}": turned(k) for k in (10, 45, 90)},
        **{f"noise {k:g}": x + k * x.std() * noise for k in (0.5, 1.0)},
        "same class": another(True),
        "other class": another(False),
    }


def correlations() -> list[dict[str, Any]]:
    """What networks hold to be the same, under weights of the fan-in scale √2 and biases of .1."""
    rows, data = [], nv.load(nv_data("mnist10k"))
    x, y = data.x[:20].reshape(-1, 1, 28, 28).float(), data.y[:20]
    pixels = x.flatten(1)
    for name, make in IMAGES.items():
        for view, other in views(x, y, data.subset(slice(20, 600))).items():
            found = nv.functions.correlation(make(), x, other, 200, prior=nv.FanIn(math.sqrt(2), 0.1))
            cosine = torch.cosine_similarity(pixels, other.flatten(1), 1).mean()
            rows.append({"net": name, "view": view, "correlation": list(found.mean), "pixels": float(cosine)})
            print(rows[-1], flush=True)
    return rows


def nv_data(name: str) -> str:
    """A data set by name, from the folder of ``NOVACULA_DATA``."""
    import os

    return str(Path(os.environ["NOVACULA_DATA"]) / f"{name}.npz")


def corruption() -> list[dict[str, Any]]:
    """Evidence of parity with some labels drawn at random, of a network's kernel and of one that is no network's."""
    rows, data = [], nv.load("digits")
    x = data.x[:300].reshape(300, 64)
    net = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 1))
    target = nv.Target(net, prior=nv.FanIn(), likelihood=nv.Bernoulli())
    apart = float(torch.pdist(x).median())
    kernels: dict[str, Any] = {"network": None}
    for share in (0.125, 0.25, 0.5, 1.0):
        length = torch.tensor(math.log(share * apart)).double()
        kernels[f"rbf {share:g}"] = nv.kernels.SquaredExponential(length, torch.tensor(0.0).double())
    for name, kernel in kernels.items():
        for share in (0.0, 0.1, 0.25, 0.5, 1.0):
            rng = generator(0, "corruption")
            random = torch.rand(300, generator=rng) < share
            y = torch.where(random, torch.randint(2, (300,), generator=rng), data.y[:300] % 2).float()
            before = time.process_time()
            found = nv.evidence.NNGP("ep", kernel=kernel)(target, nv.Data(x, y[:, None], task="multilabel"), seed=0)
            took = time.process_time() - before
            log10 = float(found) / math.log(10)
            rows.append({"kernel": name, "corrupted": share, "log10": log10, "cpu_seconds": took})
            print(rows[-1], flush=True)
    return rows


def preprocessed() -> list[dict[str, Any]]:
    """Test error of support vector machines on 300 images of MNIST, as they are and after random layers."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    data = nv.load(nv_data("mnist10k"))
    x, y = data.x[:1300].reshape(-1, 1, 28, 28).float(), data.y[:1300].numpy()
    rows = []
    for name in ("pixels", *IMAGES):
        for draw in range(1 if name == "pixels" else 4):
            before, f = time.process_time(), x
            if name != "pixels":
                net = IMAGES[name]()
                drawn = nv.FanIn(math.sqrt(2), 0.1).bind(dict(net.named_parameters()))
                weights = drawn.sample(dict(net.named_parameters()), 1, generator(draw, "preprocessed"))
                net.load_state_dict({k: w[0] for k, w in weights.items()})
                with torch.no_grad():
                    f = net[:-1](x)  # type: ignore[index]  # without the last layer
            grid = {"svc__C": [1.0, 10.0], "svc__gamma": [s / f[0].numel() for s in (0.1, 0.3, 1.0)]}
            search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), grid, cv=3)
            search.fit(f[:300].flatten(1).numpy(), y[:300])
            error = (search.predict(f[300:].flatten(1).numpy()) != y[300:]).mean()
            took = time.process_time() - before
            rows.append({"features": name, "draw": draw, "test_error": float(error), "cpu_seconds": took})
            print(rows[-1], flush=True)
    return rows


PARTS: dict[str, Callable[[], Any]] = {
    "scales": lambda: scales(nv.load("digits")),
    "labels": labels,
    "correlations": correlations,
    "corruption": corruption,
    "preprocessed": preprocessed,
}


def figure(result: dict[str, Any]) -> None:
    """Correlations, the class entropy after labels, and evidence of structure, side by side."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(12, 3.9), layout="constrained")
    axes = drawn.subplots(1, 3, width_ratios=(1.5, 1, 1.2))
    seen = [r["view"] for r in result["correlations"] if r["net"] == "mlp"]
    for name, marker in zip(IMAGES, "osD", strict=True):
        rows = [r for r in result["correlations"] if r["net"] == name]
        middle, low, high = zip(*(r["correlation"] for r in rows), strict=True)
        bars = [[m - a for m, a in zip(middle, low, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
        axes[0].errorbar(range(len(rows)), middle, bars, fmt=marker, markersize=4, capsize=2, label=name)
    axes[0].plot([r["pixels"] for r in result["correlations"] if r["net"] == "mlp"], "k_", label="cosine of pixels")
    axes[0].set_xticks(range(len(seen)), seen, rotation=60, ha="right")
    axes[0].set_ylabel("correlation of outputs")
    axes[0].legend(frameon=False, fontsize=8)
    for a, marker in ((0.25, "o"), (1.0, "s")):
        rows = [r for r in result["labels"] if r["a"] == a]
        errors = [3.18 * r["stderr"][2] for r in rows]
        entropy = [r["class_entropy"] for r in rows]
        axes[1].errorbar(range(len(rows)), entropy, errors, marker=marker, capsize=2, label=f"weights N(0, {a:g}²)")
    axes[1].axhline(math.log(10), color="k", linestyle=":", linewidth=1)
    axes[1].text(0, math.log(10) - 0.03, "all classes alike", va="top", fontsize=8)
    axes[1].set_xticks(range(3), ["0", "10", "100"])
    axes[1].set_xlabel("labels")
    axes[1].set_ylabel("class entropy, nats")
    axes[1].legend(frameon=False, fontsize=8, loc="lower right")
    for name in dict.fromkeys(r["kernel"] for r in result["corruption"]):
        rows = [r for r in result["corruption"] if r["kernel"] == name]
        style = "k-o" if name == "network" else "--"
        axes[2].plot([100 * r["corrupted"] for r in rows], [r["log10"] for r in rows], style, markersize=4, label=name)
    axes[2].axhline(-300 * math.log10(2), color="k", linestyle=":", linewidth=1)
    axes[2].text(100, -300 * math.log10(2) + 1, "coins", ha="right", fontsize=8)
    axes[2].set_xlabel("labels drawn at random, %")
    axes[2].set_ylabel("log10 P(all 300 right)")
    axes[2].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    drawn.savefig(RESULT.with_suffix(".png"), dpi=110)


def main() -> None:
    """Measure what is asked for, and write it beside what is known."""
    torch.set_num_threads(1)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for part in sys.argv[1:] or (*PARTS, "figure"):
        if part == "figure":
            figure(result)
        else:
            result[part] = PARTS[part]()
            write(RESULT, {**result, "environment": environment()})


if __name__ == "__main__":
    main()
