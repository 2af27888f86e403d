"""Boosted trees as a control, against loops written out with scikit-learn alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

import novacula as nv
from novacula.core.rng import derive
from novacula.study.controls.control import Part
from novacula.study.controls.trees import PATIENCE, ROUNDS, inner_folds, leaf, trees


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def settings(n: int, rounds: int) -> dict[str, Any]:
    return {
        "max_iter": rounds,
        "max_leaf_nodes": 15,
        "min_samples_leaf": leaf(n),
        "early_stopping": False,
    }


def first_that_lasts(losses: list[float]) -> int:
    """The first number of rounds whose loss the next ones do not beat."""
    return next(i for i, v in enumerate(losses) if v == min(losses[: i + PATIENCE + 1]))


def steps(n: int = 60) -> nv.Data:
    x = rng().normal(size=(n, 3))
    y = np.stack([np.sign(x[:, 0]) + 0.3 * x[:, 1], 100 * np.abs(x[:, 2])], 1) + 0.2 * rng(1).normal(size=(n, 2))
    return nv.Data(torch.from_numpy(x), torch.from_numpy(y))


def part(data: nv.Data, m: int, outputs: int) -> Part:
    return Part(data.subset(slice(m, None)), data.x[:m], outputs, seed=5)


def test_measurements_are_those_of_a_hand_written_loop() -> None:
    data, m = steps(), 15
    said = trees(part(data, m, 2))
    x, new = data.x[m:].numpy(), data.x[:m].numpy()
    inner = inner_folds(data.subset(slice(m, None)), derive(5, "inner")).numpy()
    for d in range(2):
        y = data.y[m:, d].numpy()
        z = (y - y.mean()) / y.std()
        losses, widths = [], []
        for rounds in ROUNDS[:18]:
            held = np.empty(len(y))
            for k in range(4):
                model = HistGradientBoostingRegressor(**settings(len(y), rounds))
                held[inner == k] = model.fit(x[inner != k], z[inner != k]).predict(x[inner == k])
            losses.append(float(np.mean((held - z) ** 2)))
            widths.append(float(np.sqrt(np.mean((held * y.std() + y.mean() - y) ** 2))))
        best = first_that_lasts(losses)
        assert best < 18 - PATIENCE
        final = HistGradientBoostingRegressor(**settings(len(y), ROUNDS[best])).fit(x, z)
        np.testing.assert_allclose(said.mean()[:, d].numpy(), final.predict(new) * y.std() + y.mean(), rtol=1e-9)
        np.testing.assert_allclose(said.variance()[:, d].sqrt().numpy(), widths[best], rtol=1e-9)


def test_classes_are_those_of_a_hand_written_loop() -> None:
    draw, n, m = rng(2), 80, 20
    x = draw.normal(size=(n, 2))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] + 0.5 * draw.normal(size=n) > 0.8)
    data = nv.Data(torch.from_numpy(x), torch.from_numpy(y))
    said = trees(part(data, m, 3)).mean().numpy()
    seen, labels, size = x[m:], y[m:], n - m
    inner = inner_folds(data.subset(slice(m, None)), derive(5, "inner")).numpy()
    assert all(len(np.unique(labels[inner != k])) == 3 for k in range(4))

    def smooth(p: np.ndarray, n: int) -> np.ndarray:
        return (n * p + 1 / 3) / (n + 1)

    held, losses = [], []
    for rounds in ROUNDS[:12]:
        p = np.empty((size, 3))
        for k in range(4):
            model = HistGradientBoostingClassifier(**settings(size, rounds))
            own = model.fit(seen[inner != k], labels[inner != k]).predict_proba(seen[inner == k])
            p[inner == k] = smooth(own, int((inner != k).sum()))
        held.append(np.log(p))
        losses.append(-float(np.mean(held[-1][np.arange(size), labels])))
    best = first_that_lasts(losses)
    assert best < 12 - PATIENCE
    # The temperature by brute force: on a grid whose steps are finer than the tolerance below.
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 60_001))
    f = held[best]
    cost = [np.mean(np.log(np.exp(f / t).sum(1)) - f[np.arange(size), labels] / t) for t in grid[::60]]
    near = int(np.argmin(cost)) * 60
    close = grid[max(0, near - 60) : near + 61]
    cost = [np.mean(np.log(np.exp(f / t).sum(1)) - f[np.arange(size), labels] / t) for t in close]
    t = close[int(np.argmin(cost))]
    assert 0.06 < t < 19
    model = HistGradientBoostingClassifier(**settings(size, ROUNDS[best])).fit(seen, labels)
    p = np.exp(np.log(smooth(model.predict_proba(x[:m]), size)) / t)
    np.testing.assert_allclose(said, smooth(p / p.sum(1, keepdims=True), size), rtol=1e-3)


def test_a_class_that_the_part_lacks_has_the_share_of_one_example() -> None:
    x = torch.from_numpy(rng().normal(size=(24, 2)))
    one = nv.Data(x, torch.zeros(24, dtype=torch.int64), classes=["a", "b", "c"])
    p = trees(Part(one, x[:4], 3, 0)).mean()
    expected = torch.tensor([24 + 1 / 3, 1 / 3, 1 / 3], dtype=torch.float64) / 25
    torch.testing.assert_close(p, expected.expand(4, 3), rtol=1e-12, atol=0)


def test_labels_side_by_side_are_predicted_apart() -> None:
    x = torch.from_numpy(rng(3).normal(size=(60, 2)))
    y = torch.stack([x[:, 0] > 0, x[:, 1] > 0.7], 1).double()
    both = nv.Data(x, y, task="multilabel")
    said = trees(part(both, 10, 2))
    assert said.likelihood.task == "multilabel"
    for c in range(2):
        alone = trees(part(nv.Data(x, y[:, c : c + 1], task="multilabel"), 10, 1))
        torch.testing.assert_close(said.mean()[:, c : c + 1], alone.mean(), rtol=0, atol=0)
        # Each label follows from one input, but for the values near its threshold.
        assert float(((said.mean()[:, c] > 0.5) == (y[:10, c] > 0.5)).double().mean()) >= 0.8
    p, truth = said.mean(), y[:10]
    torch.testing.assert_close(said.log_prob(truth), (p * truth + (1 - p) * (1 - truth)).log().sum(1))


def test_constant_targets_and_columns_are_taken() -> None:
    x = torch.cat([torch.ones(30, 1), torch.from_numpy(rng().normal(size=(30, 1)))], 1).double()
    data = nv.Data(x, torch.stack([torch.full((30,), 3.0, dtype=torch.float64), 2 * x[:, 1]], 1))
    said = trees(Part(data, x[:5], 2, 0))
    torch.testing.assert_close(said.mean()[:, 0], torch.full((5,), 3.0, dtype=torch.float64))
    assert bool(said.log_prob(data.y[:5]).isfinite().all())
