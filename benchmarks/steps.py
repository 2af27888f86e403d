"""What a step of training costs over a plain loop of PyTorch that does the same: ratios of CPU seconds.

    python -m benchmarks.steps --repeats 2

The plain loop has the module itself, its mean loss, `torch.optim.Adam` with the prior as its weight decay, a one-cycle
schedule, and batches from a shuffled index. Ours is the loop behind `nv.infer`, with everything that a run does once
(what train mode changes, the key of a checkpoint, the recording of a long run). The convolutional network sees eight
warped copies of each of 125 images; the plain loop warps them by `affine_grid` and `grid_sample`, without gradients.
Its runs are pieces of 25 steps from the middle of a longer one: ``hyper-steps`` is `EmpiricalBayes`, with one step on
the extents in 25. Ways take turns in one process, on one thread; a first turn is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.core.rng import generator
from novacula.inference.loop import run
from novacula.inference.method import Start
from novacula.networks.cnn import cnn
from novacula.study.learning.empirical_bayes import EmpiricalBayes, EmpiricalBayesState
from novacula.target.batch import Batch

RESULTS = Path(__file__).parent / "results" / "steps.json"
ROWS, BATCH, LR = 1_600, 50, 2e-3
IMAGES, SHOWN, COPIES, PIECE, LONG = 1_000, 125, 8, 25, 1_000

Ways = dict[str, Callable[[], object]]


def small() -> nn.Module:
    """3,131 weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 50), nn.GELU(), nn.Linear(50, 40), nn.GELU(), nn.Linear(40, 1))


def plain(
    net: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor], steps: int, size: int, copies: int
) -> float:
    """The loop that people write."""
    optimiser = torch.optim.Adam(net.parameters(), lr=LR, weight_decay=1 / len(x))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=steps)
    done, total = 0, 0.0
    while done < steps:
        for index in torch.randperm(len(x)).split(size)[: steps - done]:
            seen = x[index]
            if copies > 1:
                seen = warped(seen.repeat_interleave(copies, 0))
            out = net(seen)
            out = out if copies == 1 else out.unflatten(0, (-1, copies)).mean(1)
            optimiser.zero_grad()
            value = loss(out, y[index])
            value.backward()
            optimiser.step()
            schedule.step()
            total += value.item()
            done += 1
    return total


def warped(x: Tensor) -> Tensor:
    """Turned, scaled, sheared and shifted at random."""
    size = 0.1 * (2 * torch.rand(len(x), 2, 3) - 1)
    maps = torch.eye(2, 3) + size
    grid = nn.functional.affine_grid(maps, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, align_corners=False)


def numbers(steps: int) -> Ways:
    """The small network on a table."""
    x = torch.randn(ROWS, 20, generator=torch.Generator().manual_seed(1))
    y = x[:, :1].sin() + 0.1 * x[:, 1:2]

    def ours() -> object:
        target, data = nv.Target(small(), nv.Normal(), nv.Gaussian(1.0)).prepare(nv.Data(x, y))
        return run(nv.MAP(LR), target, data, steps=steps, batch_size=BATCH)

    loss = nn.MSELoss()
    return {"plain": lambda: plain(small(), x, y, loss, steps, BATCH, 1), "MAP": ours}


def images() -> Ways:
    """The convolutional network on warped copies."""
    rng = torch.Generator().manual_seed(1)
    x, y = 0.3 * torch.rand(IMAGES, 1, 28, 28, generator=rng), torch.randint(0, 10, (IMAGES,), generator=rng)
    for image, label in zip(x, y.tolist(), strict=True):
        image[:, 5 * (label // 5) + 8 :][:, :4, 5 * (label % 5) : 5 * (label % 5) + 5] += 1
    torch.manual_seed(0)
    net = cnn((1, 28, 28), 10)
    # Extents move only where a network predicts better than a constant.
    plain(net, x, y, nn.CrossEntropyLoss(), 80, SHOWN, 1)
    copies = nv.Copies(train=COPIES)
    target, data = nv.Target(net, nv.Categorical(), nv.Gaussian(1.0), nv.Affine(), copies=copies).prepare(nv.Data(x, y))
    target.forward.trains(data.x)
    start = Start.of(target, {k: w.unsqueeze(0) for k, w in target.params().items()}, LONG, "auto")

    def piece(method: nv.MAP | EmpiricalBayes) -> Callable[[], object]:
        first = method.init(target, data, generator(0), start)

        def ours() -> object:
            state, done = first, 0
            while done < PIECE:
                for seen, labels, _ in data.batches(SHOWN, 0, done):
                    if done < PIECE:
                        batch = Batch(seen, labels, IMAGES, LONG // 2 + done, LONG)
                        state, _ = method.step(target, state, batch, generator(0, "step", done))  # type: ignore[arg-type]
                        done += 1
            if isinstance(state, EmpiricalBayesState):
                eta = target.learnable()["invariance.eta"]
                assert not torch.equal(state.hyper["invariance.eta"], eta), "no hyper-step was taken"
            return state

        return ours

    learning = EmpiricalBayes(nv.MAP(LR), first=LONG, single=True, learn=("invariance",))
    loss = nn.CrossEntropyLoss()
    return {
        "plain": lambda: plain(net_of(net), x, y, loss, PIECE, SHOWN, COPIES),
        "MAP": piece(nv.MAP(LR)),
        "hyper-steps": piece(learning),
    }


def net_of(net: nn.Module) -> nn.Module:
    """Another network of the same kind."""
    other = cnn((1, 28, 28), 10)
    other.load_state_dict(net.state_dict())
    return other


def turns(ways: Ways, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each way, turn by turn."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if turn:
                took[name].append(round(time.process_time() - began, 4))
    return took


def main() -> None:
    """Measure, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = {"3k, 500 steps": (numbers(500), 500), "3k, 3,000 steps": (numbers(3_000), 3_000), "81k": (images(), PIECE)}
    table: dict[str, dict[str, object]] = {}
    for case, (ways, steps) in cases.items():
        took = turns(ways, options.repeats)
        for name, each in took.items():
            ratios = [a / b for a, b in zip(each, took["plain"], strict=True)]
            row = {
                "milliseconds a step": round(1e3 * statistics.median(each) / steps, 3),
                "over plain": round(statistics.median(ratios), 2),
                "least": round(min(ratios), 2),
                "most": round(max(ratios), 2),
                "cpu_seconds": each,
            }
            table[f"{case}, {name}"] = row
            shown = {k: v for k, v in row.items() if k != "cpu_seconds"}
            print(f"{case + ', ' + name:28} {shown}", flush=True)
    write(options.out, {"steps": table, "repeats": options.repeats, "environment": environment()})


if __name__ == "__main__":
    main()
