"""One yardstick of evidence for everybody: LILA's own KFAC Laplace at the weights and extents a run has learned.

Estimators of different families cannot be compared, so the weights that each learner ends with (``run --state``) are
scored by the same third party: the KFAC evidence of LILA's authors, over the whole training set, for outputs averaged
over 31 random copies, with one prior precision a tensor that is first tuned to that very evidence.
``python -m benchmarks.peers.yardstick --task digits STATE.npz …``
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers import shims
from benchmarks.peers.common import Budget, tensors, write
from benchmarks.peers.lila import modules
from benchmarks.peers.nets import make
from benchmarks.peers.plain import Augmentation
from benchmarks.peers.task import TASKS, load

COPIES = 31


def polar(x: Tensor, eta: Tensor) -> Tensor:
    """One random copy of each square image, its content moved by ``p' = A p + t``.

    ``A = R(π η₀ u₀) · exp(η₃ u₃) · exp [[d, h], [h, −d]]`` and ``t = (η₁ u₁, η₂ u₂)``, where ``d = η₄ u₄``,
    ``h = η₅ u₅`` and ``u`` is uniform in [−1, 1]. ``eta`` holds rotation (1 = ±180°), two translations (1 = half the
    width), scale, stretch and shear.
    """
    u = (torch.rand(len(x), 6) * 2 - 1) * eta
    angle, (d, h) = math.pi * u[:, 0], u[:, 4:].T
    r = (d.square() + h.square()).sqrt().clamp(min=1e-12)
    ch, sh = torch.cosh(r), torch.sinh(r) / r
    # What is seen at p' comes from p = A⁻¹ (p' − t).
    symmetric = torch.stack([ch - sh * d, -sh * h, -sh * h, ch + sh * d], 1).view(-1, 2, 2)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    inverse = (-u[:, 3]).exp()[:, None, None] * symmetric @ turn
    matrix = torch.cat([inverse, -inverse @ u[:, 1:3, None]], 2)
    grid = nn.functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


def transform(state: dict[str, Tensor], budget: Budget, layers: object) -> Callable[[Tensor], Tensor] | None:
    """The random transformation that a state was learned with: one copy of each image a call."""
    if "rot_factor" in state:
        layer = layers.AffineLayer2d(n_samples=1)  # type: ignore[attr-defined]
        layer.rot_factor.data = state["rot_factor"].float()
        return lambda x: layer(x)[:, 0]
    if "width" in state:
        checkout = budget.folder("learning-invariances")
        shims.first_on_path(checkout)
        shims.package_without_init("augerino", checkout / "augerino")
        shims.package_without_init("augerino.models", checkout / "augerino" / "models")
        from augerino.models.uniform_aug import UniformAug

        augment = UniformAug()
        augment.set_width(state["width"].float())
        return augment
    if "extents" in state:
        return Augmentation(*state["extents"].tolist())
    if "eta" in state:
        return lambda x: polar(x, state["eta"].float())
    return None


def evidence(task: str, state: dict[str, Tensor], budget: Budget, x: Tensor, y: Tensor, seed: int) -> dict[str, object]:
    """LILA's KFAC log evidence and its parts, at the best prior precision for each tensor."""
    layers, _, Loader, (Kron, backend), Conv2dAug = modules(budget)
    torch.manual_seed(seed)
    one = transform(state, budget, layers)
    network = make(task, Conv2dAug if task == "mnist10k" else nn.Conv2d, sample_axes=1)
    network.load_state_dict({name: state[name].float() for name in network.state_dict()})

    @torch.no_grad()
    def copies(batch: Tensor) -> Tensor:
        return batch[:, None] if one is None else torch.stack([one(batch) for _ in range(COPIES)], 1)

    log_precision = torch.zeros(len(list(network.parameters())), requires_grad=True)
    posterior = Kron(network, "classification", prior_precision=log_precision.exp().detach(), backend=backend,
                     backend_kwargs={"differentiable": False})  # fmt: skip
    posterior.fit(Loader(x, y, transform=copies, batch_size=125, detach=True))
    optimiser = torch.optim.Adam([log_precision], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        value = posterior.log_marginal_likelihood(log_precision.exp())
        (-value).backward()
        optimiser.step()
    return {
        "evidence": value.item(),
        "per_example": value.item() / len(y),
        "log_likelihood": float(posterior.log_likelihood),
        "precision": log_precision.exp().tolist(),
    }


def main() -> None:
    """Score every state file of the command line and write one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("states", nargs="+", help="npz files written by run --state, or with an array eta")
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--out")
    parser.add_argument("--peers")
    parser.add_argument("--data")
    parser.add_argument("--limit", type=int, help="use only the first so many training examples")
    args = parser.parse_args()
    torch.set_num_threads(1)
    task = load(args.task, data=args.data)
    x, y, _, _ = tensors(task)
    x, y = x[: args.limit], y[: args.limit]
    report = {}
    for path in args.states:
        with np.load(path) as stored:
            state = {name: torch.from_numpy(stored[name]) for name in stored.files}
        rows = [evidence(args.task, state, Budget(peers=args.peers), x, y, seed) for seed in range(2)]
        report[Path(path).stem] = rows[0] | {"again_with_another_seed": rows[1]["evidence"]}
    head = {"task": args.task, "estimator": f"LILA's KFAC Laplace, {COPIES} copies, precision tuned a tensor",
            "n": len(y), "fingerprint": task.fingerprint}  # fmt: skip
    write(head | {"runs": report}, args.out)


if __name__ == "__main__":
    main()
