"""LILA: extents of the six affine generators and the prior precision, by a KFAC Laplace evidence over the whole set.

References:
    Invariance Learning in Deep Neural Networks with Differentiable Laplace Approximations. Immer, van der Ouderaa,
    Fortuin, Rätsch, van der Wilk, 2022, arXiv:2202.10638.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers import shims
from benchmarks.peers.common import Budget, Clock, Marked, logits, merged, scores, tensors, versions
from benchmarks.peers.nets import make
from benchmarks.peers.task import Task

# The authors' command for rotated MNIST (MLP): 31 samples, batches of 1,000, Adam .005 with cosine decay to 1e-6,
# extents .05, ten epochs before the first hyper-step, one prior precision. "tuned" is cheaper and faster to converge:
# fewer samples, the evidence's gradient on one small batch, larger hyper-steps, one precision a tensor.
PUBLISHED = {"batch": 1000, "lr": 0.005, "lr_aug": 0.05, "lr_hyp": 0.05, "burnin": 10, "samples": 31,
             "fit_batch": 1000, "grad_batch": 1000, "grad_batches": 1, "prior_structure": "scalar"}  # fmt: skip
TUNED = PUBLISHED | {"batch": 125, "lr_hyp": 0.1, "fit_batch": 250, "grad_batch": 125, "prior_structure": "layerwise"}
SETTINGS = {
    ("digits", "published"): PUBLISHED | {"epochs": 30, "batch": 125},
    ("digits", "tuned"): TUNED | {"epochs": 75, "batch": 50, "lr": 0.02, "lr_aug": 0.15, "burnin": 5,
                                  "samples": 8},
    ("mnist10k", "tuned"): TUNED | {"epochs": 12, "lr_aug": 0.3, "burnin": 1, "samples": 5, "fit_batch": 125,
                                    "grad_batch": 64},
}  # fmt: skip


def extents(factors: Tensor) -> dict[str, Any]:
    """The learned extents in the report's units, from LILA's six generator factors."""
    tx, ty, turn, sx, sy, shear = factors.detach().abs().double().tolist()
    return {
        "rotation_degrees": math.degrees(min(turn, math.pi)),
        "translation_x": tx / 2,
        "translation_y": ty / 2,
        "scale_x": sx,
        "scale_y": sy,
        "shear": shear,
        "raw": factors.detach().tolist(),
    }


def modules(budget: Budget) -> tuple[Any, Any, Any, Any, Any]:
    """LILA's layers, loop, loader and (from the authors' later repository) the Laplace and curvature forks."""
    lila, forks = budget.folder("lila"), budget.folder("ntk-marglik") / "dependencies"
    shims.first_on_path(lila, forks / "laplace", forks / "asdl")
    shims.stand_in("torchvision", "torchvision.transforms", "torchvision.datasets")
    import laplace
    from asdfghjkl.operations.conv_aug import Conv2dAug
    from laplace.curvature.augmented_asdl import AugAsdlGGN
    from lila import layers, marglik, utils

    return layers, marglik, utils.TensorDataLoader, (laplace.KronLaplace, AugAsdlGGN), Conv2dAug


def run(task: Task, budget: Budget) -> dict[str, Any]:
    """Train with LILA (its exact-gradient variant that needs less memory) and report."""
    layers, marglik, Loader, (Kron, backend), Conv2dAug = modules(budget)
    settings = merged(SETTINGS, task.name, budget)
    x, y, x_test, y_test = tensors(task)
    torch.manual_seed(budget.seed)
    augmenter = layers.AffineLayer2d(n_samples=settings["samples"], init_value=0.0)
    network = make(task.name, Conv2dAug if task.name == "mnist10k" else nn.Conv2d, sample_axes=1)
    clock, history = Clock(), []
    train = Marked(
        Loader(x, y, transform=augmenter, batch_size=settings["batch"], shuffle=True, detach=True),
        clock,
        lambda: history.append(extents(augmenter.rot_factor)["rotation_degrees"]),
    )
    fit = Loader(x, y, transform=augmenter, batch_size=settings["fit_batch"], shuffle=True)
    part = Loader(x, y, transform=augmenter, batch_size=settings["grad_batch"], shuffle=True)
    steps_left = settings["epochs"] - max(settings["burnin"], 1) + 1

    def approximation(*args: Any, **kwargs: Any) -> Any:
        """LILA's approximation; after the last hyper-step it is made once more, to refit the best model."""
        nonlocal steps_left
        steps_left -= 1
        if steps_left < 0:
            clock.begin("refit")
        return Kron(*args, **kwargs)

    posterior, network, evidences, _, _ = marglik.marglik_opt_jvecprod(
        network, train, fit, None, part, likelihood="classification", prior_structure=settings["prior_structure"],
        n_epochs=settings["epochs"], lr=settings["lr"], lr_min=1e-6, optimizer="Adam", scheduler="cos",
        n_epochs_burnin=settings["burnin"], n_hypersteps=settings["grad_batches"], n_hypersteps_prior=1,
        marglik_frequency=1, lr_hyp=settings["lr_hyp"], lr_aug=settings["lr_aug"], lr_aug_min=settings["lr_aug"],
        laplace=approximation, backend=backend, method="avgfunc", augmenter=augmenter,
    )  # fmt: skip
    clock.stop()
    clock.drop_idle(settings["burnin"], last=False)
    one = layers.AffineLayer2d(n_samples=1)
    one.load_state_dict(augmenter.state_dict())

    def outputs(inputs: Tensor) -> Tensor:
        return network(inputs).mean(1)

    value = -min(evidences)
    return {
        "method": "LILA, KFAC, AugAsdlGGN, marglik_opt_jvecprod",
        "settings": settings,
        "seconds": clock.summary(1),
        "invariance": extents(augmenter.rot_factor),
        "prior": {"structure": settings["prior_structure"], "precision": posterior.prior_precision.tolist()},
        "evidence": {"value": value, "kind": "estimate", "estimator": "LILA's KFAC Laplace, best epoch",
                     "per_example": value / len(y), "last": -evidences[-1]},
        "test": scores(logits(outputs, x_test, one), y_test),
        "test_untransformed": scores(logits(outputs, x_test[:, None], None), y_test),
        "history": {"rotation_degrees": history, "evidence": [-e for e in evidences]},
        "versions": versions(budget.folder("lila"), budget.folder("ntk-marglik")),
        "state": {name: p.detach() for name, p in network.named_parameters()}
        | {"rot_factor": augmenter.rot_factor.detach(), "prior_precision": posterior.prior_precision.detach()},
    }  # fmt: skip
