"""The NTK-subset learner of LILA's authors: many cheap hyper-steps, each on a random subset and one random output.

References:
    Stochastic Marginal Likelihood Gradients using Neural Tangent Kernels. Immer, van der Ouderaa, van der Wilk,
    Rätsch, Schölkopf, 2023, arXiv:2306.03968.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers import shims
from benchmarks.peers.common import Budget, Clock, Marked, logits, merged, scores, tensors, versions
from benchmarks.peers.lila import extents
from benchmarks.peers.nets import make
from benchmarks.peers.task import Task

# The authors' configuration for learned invariances on CIFAR-10 (20 samples, subsets of 150, 20 hyper-steps and 4
# prior steps an epoch, a single random output a step, extents .01 decayed to .001, prior .1, one precision a tensor).
PUBLISHED = {"batch": 128, "lr": 0.005, "lr_aug": 0.01, "lr_aug_min": 0.001, "lr_hyp": 0.1, "burnin": 10,
             "samples": 20, "subset": 150, "steps": 20, "prior_steps": 4}  # fmt: skip
SETTINGS = {
    ("digits", "published"): PUBLISHED | {"epochs": 75},
    ("digits", "tuned"): PUBLISHED | {"epochs": 75, "batch": 50, "lr": 0.02, "lr_aug": 0.05, "lr_aug_min": 0.005,
                                      "burnin": 5, "samples": 8, "steps": 8},
    ("mnist10k", "tuned"): PUBLISHED | {"epochs": 8, "batch": 125, "lr_aug": 0.05, "lr_aug_min": 0.005, "burnin": 1,
                                        "samples": 5, "subset": 100, "steps": 10},
}  # fmt: skip


def run(task: Task, budget: Budget) -> dict[str, Any]:
    """Train with the NTK-subset evidence and report."""
    checkout = budget.folder("ntk-marglik")
    shims.first_on_path(checkout, checkout / "dependencies" / "laplace", checkout / "dependencies" / "asdl")
    shims.stand_in("torchvision", "torchvision.transforms", "torchvision.datasets", "wandb", "dotenv")
    shims.package_without_init("data_utils", checkout / "data_utils")
    from asdfghjkl.operations.conv_aug import Conv2dAug
    from data_utils.utils import SubsetTensorDataLoader, TensorDataLoader
    from laplace import FunctionalLaplace
    from laplace.curvature.augmented_asdl import AugAsdlGGN
    from ntkmarglik.invariances import AffineLayer2d
    from ntkmarglik.marglik import marglik_optimization

    settings = merged(SETTINGS, task.name, budget)
    x, y, x_test, y_test = tensors(task)
    torch.manual_seed(budget.seed)
    np.random.seed(budget.seed)  # noqa: NPY002 -- the peer's subset loader draws from it
    augmenter = AffineLayer2d(n_samples=settings["samples"], init_value=0.0)
    network = make(task.name, Conv2dAug if task.name == "mnist10k" else nn.Conv2d, sample_axes=1)
    clock, history = Clock(), []
    train = Marked(
        TensorDataLoader(x, y, transform=augmenter, batch_size=settings["batch"], shuffle=True, detach=True),
        clock,
        lambda: history.append(extents(augmenter.rot_factor)["rotation_degrees"]),
    )
    subset = SubsetTensorDataLoader(x, y, transform=augmenter, subset_size=settings["subset"], detach=False,
                                    data_factor=len(y) / settings["subset"])  # fmt: skip
    posterior, network, losses, _, _ = marglik_optimization(
        network, train, subset, None, None, likelihood="classification", prior_structure="layerwise",
        n_epochs=settings["epochs"], lr=settings["lr"], lr_min=1e-6, optimizer="Adam", scheduler="cos",
        n_epochs_burnin=settings["burnin"], n_hypersteps=settings["steps"], n_hypersteps_prior=settings["prior_steps"],
        lr_hyp=settings["lr_hyp"], lr_hyp_min=settings["lr_hyp"], lr_aug=settings["lr_aug"],
        lr_aug_min=settings["lr_aug_min"], laplace=FunctionalLaplace, backend=AugAsdlGGN, independent=True,
        single_output=True, kron_jac=True, method="lila", augmenter=augmenter, stochastic_grad=True,
    )  # fmt: skip
    clock.stop()
    clock.drop_idle(settings["burnin"], last=True)
    one = AffineLayer2d(n_samples=1)
    one.load_state_dict(augmenter.state_dict())

    def outputs(inputs: Tensor) -> Tensor:
        return network(inputs).mean(1)

    value = -float(np.mean(losses[-5:])) * len(y)
    return {
        "method": "NTK subset, single random output, AugAsdlGGN, FunctionalLaplace",
        "settings": settings,
        "seconds": clock.summary(max(settings["steps"], settings["prior_steps"])),
        "invariance": extents(augmenter.rot_factor),
        "prior": {"structure": "layerwise", "precision": posterior.prior_precision.tolist()},
        "evidence": {"value": value, "kind": "lower bound in expectation",
                     "estimator": "NTK subset, mean of the last five epochs", "per_example": value / len(y)},
        "test": scores(logits(outputs, x_test, one), y_test),
        "test_untransformed": scores(logits(outputs, x_test[:, None], None), y_test),
        "history": {"rotation_degrees": history, "evidence": [-v * len(y) for v in losses]},
        "versions": versions(checkout),
        "state": {name: p.detach() for name, p in network.named_parameters()}
        | {"rot_factor": augmenter.rot_factor.detach(), "prior_precision": posterior.prior_precision.detach()},
    }  # fmt: skip
