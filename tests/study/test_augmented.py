"""Augmentation in three ways: what each density is, and that the study runs all of them from fixed seeds."""

from __future__ import annotations

import pytest
import torch
from benchmarks.augmented import Naive, Shares, augmented
from torch import nn

import novacula as nv


def test_probabilities_are_averaged_and_not_logits() -> None:
    x, y = torch.rand(5, 1, 6, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).double()
    turns = nv.Affine(eta=torch.tensor([0.5]).double(), only=("rotation",))
    f = net(turns(x.repeat_interleave(4, 0), turns.noise(20, x, torch.Generator().manual_seed(0)))).unflatten(0, (5, 4))
    shares = f.softmax(-1)
    expected = shares.mean(1).log().gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(Shares().log_prob(shares.mean(1), y), expected)
    assert (Shares().log_prob(shares.mean(1), y) - nv.Categorical().log_prob(f.mean(1), y)).abs().min() > 1e-6
    root = Shares().factor(shares.mean(1), y)
    p = shares.mean(1).detach().requires_grad_()
    fisher = torch.zeros(5, 3, 3).double()
    for c in range(3):  # E_y of the squared score
        (score,) = torch.autograd.grad(Shares().log_prob(p, torch.full((5,), c)).sum(), p)
        fisher = fisher + p.detach()[:, c, None, None] * score[:, :, None] * score[:, None]
    along = torch.eye(3).double() - 1 / 3  # probabilities move on the simplex alone
    torch.testing.assert_close(along @ root @ root.mT @ along, along @ fisher @ along)


def test_the_study_has_four_arms() -> None:
    digits = nv.load("digits")
    train, test = digits.subset(range(60)), digits.subset(range(60, 100))
    net = nv.networks.make("mlp", train.x_shape, 10, width=4, depth=1)
    turns = nv.Affine(eta=torch.tensor([0.1]), only=("rotation",))
    assert not Naive(turns).averages_predictions
    found = augmented(
        nv.SGLD(lr=1e-3, keep=5), net, train, test, turns, copies=2, temperatures=(0.1,), steps=40, seeds=(0, 1)
    )
    assert list(found) == ["none", "naive", "logits", "probabilities"]
    losses = [study.curve("nll")[-1].score.value for study in found.values()]
    assert len({round(v, 6) for v in losses}) == 4
    with pytest.raises(nv.InputError, match="classes"):
        augmented(nv.SGLD(lr=1e-3), net, nv.Data(train.x, torch.rand(60, 1)), test, turns)
