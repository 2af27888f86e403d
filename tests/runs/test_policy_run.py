"""A run trained with an augmentation policy: what it keeps, what its report says, and what it predicts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import novacula as nv
from novacula.core.storage.run import Run
from novacula.runs.loading import load_run


def test_a_run_with_a_policy_is_saved_and_predicts_as_before(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    data = nv.Data(torch.rand(24, 1, 6, 6, generator=rng), torch.arange(24) % 3)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Tanh(), nn.Linear(4, 3))
    policy = nv.Compose(nv.Flip(), nv.Trivial())
    target = nv.Target(network, invariance=policy)
    fit = nv.learn(target, data, epochs=2, structures=("last_layer",))
    assert "invariance.eta" not in fit.target.learnable()
    fit.save(tmp_path / "run")
    run = Run.read(tmp_path / "run")
    # The flip's probability is no extent that was learned, and the copies of training are no claim about predictions.
    assert run.record["invariance"]["eta"] == {}
    assert "montage/transformed" not in run.arrays
    page = nv.report(tmp_path / "run").read_text(encoding="utf-8")
    assert "scored as they are" in page
    assert "jitter of learning" not in page
    loaded = load_run(tmp_path / "run", target=target, data=data)
    expected = nv.predict(fit.posterior, data.x).mean()
    torch.testing.assert_close(nv.predict(loaded.posterior, data.x).mean(), expected, rtol=1e-5, atol=1e-6)
