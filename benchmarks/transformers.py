"""Two transformers trained apart, brought into one order by ever more of their symmetries.

    python -m benchmarks.transformers              # two layers of 128: ten CPU minutes
    python -m benchmarks.transformers --small      # one layer of 32: a minute
    python -m benchmarks.transformers --vision     # two layers of 64 on images: six CPU minutes

Decoders of four heads, root-mean-square norms and learned positions read the help texts of Python's standard library
(465,000 characters) in windows of 32; two seeds, other starts and orders. The barrier is that of the mean loss of all
characters of held-out windows, each given those before it, 11 points of the line; steps of the loss half-way lower the
same loss. A vision transformer of such blocks reads the 10,000 images of `cifar10-small.npz` in $NOVACULA_DATA by
patches of 4 × 4; its barrier is that of the cross-entropy of 1,000 test images. No symmetry is written by hand:
`nv.paths.symmetries` finds them from the graph. One JSON file in ``results/transformers.json``; what stands there is
not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import gettempdir
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.common import environment, write
from novacula.likelihoods.base import Likelihood

RESULTS = Path(__file__).parent / "results" / "transformers.json"
CONTEXT, WINDOWS = 32, 40_000
ARMS: dict[str, tuple[Any, ...]] = {
    "permutations": ("permutation",),
    "and orthogonal": ("permutation", "orthogonal", "scale", "sign"),
    "and invertible": ("permutation", "orthogonal", "invertible", "scale", "sign"),
}


class Norm(nn.Module):
    """A root-mean-square norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The normed stream."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Block(nn.Module):
    """Attention and a perceptron on a stream."""

    def __init__(self, width: int, heads: int, *, causal: bool = True) -> None:
        super().__init__()
        self.causal = causal
        self.heads, self.norm1, self.norm2 = heads, Norm(width), Norm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in "qkvo")
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block."""
        h = self.norm1(x)
        q, k, v = (m(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.q, self.k, self.v))
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.o(seen.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Decoder(nn.Module):
    """A decoder; as a module, logits of the characters after each of a window's."""

    def __init__(self, symbols: int, width: int, layers: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(symbols, width), nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(layers))
        self.norm, self.head = Norm(width), nn.Linear(width, symbols, bias=False)

    def stream(self, x: Tensor) -> Tensor:
        """The stream after all blocks."""
        h = self.embed(x.long()) + self.place  # data hold numbers as floats
        for block in self.blocks:
            h = block(h)
        return self.norm(h)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next characters, ``(N, CONTEXT · symbols)``."""
        return self.head(self.stream(x)).flatten(1)


class Vision(nn.Module):
    """A transformer on patches of 4 × 4."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.patches, self.place = nn.Conv2d(3, width, 4, 4), nn.Parameter(0.02 * torch.randn(64, width))
        self.blocks = nn.ModuleList(Block(width, 4, causal=False) for _ in range(layers))
        self.norm, self.head = Norm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h = self.patches(x).flatten(2).mT + self.place
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h).mean(1))


@dataclass(frozen=True, eq=False)
class Characters(Likelihood):
    """The geometric mean of the probabilities of a window's characters: outputs ``(N, CONTEXT · symbols)``."""

    symbols: int
    one: ClassVar[nv.Categorical] = nv.Categorical()

    def log_prob(self, f: Tensor, y: Tensor) -> Tensor:
        """The mean over a window, ``(N,)``."""
        return self.one.log_prob(self._each(f), y.flatten()).view(y.shape).mean(1)

    def factor(self, f: Tensor, y: Tensor) -> Tensor:
        """Blocks of those of single characters."""
        roots = self.one.factor(self._each(f), y.flatten()).unflatten(0, y.shape) / y.shape[1] ** 0.5
        return torch.einsum("ntcd,ts->ntcsd", roots, torch.eye(y.shape[1])).flatten(3).flatten(1, 2)

    def sample(self, f: Tensor, rng: torch.Generator) -> Tensor:
        """Characters, each by itself."""
        return self.one.sample(self._each(f), rng).view(len(f), -1)

    def mean(self, f: Tensor) -> Tensor:
        """Probabilities."""
        return self._each(f).softmax(1).view(f.shape)

    def outputs(self, y: Tensor) -> int:
        """Logits of all characters."""
        return y.shape[1] * self.symbols

    def validate(self, y: Tensor, outputs: int, *, training: bool = True) -> Tensor:
        """Numbers of symbols."""
        return y.long()

    def _each(self, f: Tensor) -> Tensor:
        return f.reshape(-1, self.symbols)


def characters() -> tuple[Tensor, int]:
    """The text as numbers, and how many symbols there are."""
    text = "\n".join(topics[name] for name in sorted(topics))
    symbols = sorted(set(text))
    code = {c: i for i, c in enumerate(symbols)}
    return torch.tensor([code[c] for c in text]), len(symbols)


def windows(text: Tensor, n: int, seed: int) -> nv.Data:
    """Windows, and the characters that follow each of their own."""
    starts = torch.randint(len(text) - CONTEXT, (n,), generator=torch.Generator().manual_seed(seed))
    rows = torch.stack([text[s : s + CONTEXT + 1] for s in starts])
    return nv.Data(rows[:, :-1], rows[:, 1:].float())


def images() -> tuple[nv.Data, nv.Data]:
    """CIFAR-10 in standard units of its colours."""
    with np.load(Path(os.environ["NOVACULA_DATA"]) / "cifar10-small.npz") as stored:
        x = [torch.from_numpy(stored[f"{k}_images"]).permute(0, 3, 1, 2).float() / 255 for k in ("train", "test")]
        y = [torch.from_numpy(stored[f"{k}_labels"]).long() for k in ("train", "test")]
    mean, std = x[0].mean((0, 2, 3), keepdim=True), x[0].std((0, 2, 3), keepdim=True)
    return nv.Data((x[0] - mean) / std, y[0]), nv.Data((x[1] - mean) / std, y[1])


Batch = Callable[[torch.Generator], tuple[Tensor, Tensor]]
"""From random numbers to inputs and labels, of which the net's logits are ``(…, classes)``."""


def trained(net: nn.Module, batch: Batch, steps: int, seed: int) -> nn.Module:
    """The network, trained by this seed's batches."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.1)
    rng = torch.Generator().manual_seed(seed)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - step / steps)
        x, y = batch(rng)
        logits = net(x)
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits.reshape(y.numel(), -1), y.flatten()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    return net.eval()


def pair(name: str, make: Callable[[], nn.Module], batch: Batch, steps: int, kept: Path) -> list[nn.Module]:
    """Two seeds' networks; trained ones are kept in a folder."""
    found = []
    for seed in (0, 1):
        file = kept / f"{name}-{steps}-{seed}.pt"
        torch.manual_seed(seed)
        net = make()
        if not file.exists():
            kept.mkdir(parents=True, exist_ok=True)
            torch.save(trained(net, batch, steps, seed).state_dict(), file)
        net.load_state_dict(torch.load(file, weights_only=True))
        found.append(net.eval())
    return found


def drawn(text: Tensor) -> Batch:
    """Minibatches of 32 windows of a text, with the symbols that follow."""

    def batch(rng: torch.Generator) -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(text) - CONTEXT, (32,), generator=rng)
        rows = torch.stack([text[s : s + CONTEXT + 1] for s in starts])
        return rows[:, :-1], rows[:, 1:]

    return batch


def decoders(width: int, layers: int, steps: int, matching: int, kept: Path, only: list[str]) -> None:
    """Two decoders on characters."""
    text, symbols = characters()
    cut = int(0.9 * len(text))
    name = f"{layers}x{width}"
    nets = pair(name, lambda: Decoder(symbols, width, layers), drawn(text[:cut]), steps, kept)
    parts = windows(text[:cut], WINDOWS, 0), windows(text[cut:], 1000, 1)
    about = {"width": width, "layers": layers, "training_steps": steps, "windows": WINDOWS, "symbols": symbols}
    run(name, about, nets, nv.Target(nets[0], Characters(symbols)), parts, matching, only)


def vision(width: int, layers: int, steps: int, matching: int, kept: Path, only: list[str]) -> None:
    """Two vision transformers."""
    train, test = images()
    parts = train, test.subset(range(1000))

    def batch(rng: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(train.n, (64,), generator=rng)
        x = train.x[rows]
        return (x.flip(-1) if torch.rand((), generator=rng) < 0.5 else x), train.y[rows]

    name = f"vision-{layers}x{width}"
    nets = pair(name, lambda: Vision(width, layers), batch, steps, kept)
    about = {"width": width, "layers": layers, "training_steps": steps}
    run(name, about, nets, nv.Target(nets[0]), parts, matching, only)


def run(
    name: str,
    about: dict[str, Any],
    nets: list[nn.Module],
    target: nv.Target,
    parts: tuple[nv.Data, nv.Data],
    matching: int,
    only: list[str],
    results: Path = RESULTS,
) -> None:
    """One pair; arms that stand in the file are not run again."""
    (a, b), (train, test) = (net.state_dict() for net in nets), parts
    found = nv.paths.symmetries(nets[0], train.x[:50])
    record = json.loads(results.read_text()) if results.exists() else {}
    fresh = {**about, "matching_steps": matching, "coverage": found.coverage, "error": found.verify(1), "arms": {}}
    result = record.setdefault(name, fresh)
    hows: dict[str, dict[str, Any]] = {
        "weights": {"restarts": 1},
        "data": {"data": train, "restarts": 0},
        "steps": {"data": train, "restarts": 0, "steps": matching, "lr": 3e-3},
    }
    arms = {"as they are": ((), {})} | {f"{n}: {by}": (k, how) for n, k in ARMS.items() for by, how in hows.items()}
    for what in only or arms:
        kinds, how = arms[what]
        if what in result["arms"]:
            continue
        began = time.process_time()
        end = nv.paths.match(target, a, b, found.only(*kinds), **how).apply(b) if kinds else b
        spent = time.process_time() - began
        line = nv.paths.barrier(target, a, end, test, points=11)
        row: dict[str, Any] = {"barrier": line.height, "stderr": line.stderr, "cpu_seconds": round(spent, 1)}
        row["ends"] = [float(line.loss[0]), float(line.loss[-1])]
        if line.accuracy is not None:
            row["accuracy"] = [float(line.accuracy[i]) for i in (0, 5, -1)]
        result["arms"][what] = row
        print(what, row, flush=True)
        write(results, {**record, "environment": environment()})


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--vision", action="store_true")
    parser.add_argument("--kept", type=Path, default=Path(gettempdir()) / "novacula", help="folder of trained networks")
    parser.add_argument("--only", action="append", default=[], help="an arm, as 'permutations: data'; repeat")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.vision:
        vision(64, 2, 220, 60, options.kept, options.only)
    elif options.small:
        decoders(32, 1, 300, 300, options.kept, options.only)
    else:
        decoders(128, 2, 550, 160, options.kept, options.only)


if __name__ == "__main__":
    main()
