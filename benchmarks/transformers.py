"""Two transformers trained apart on characters, brought into one order by ever more of their symmetries.

    python -m benchmarks.transformers              # two layers of 128: ten CPU minutes
    python -m benchmarks.transformers --small      # one layer of 32: a minute

Decoders of four heads, root-mean-square norms and learned positions read the help texts of Python's standard library
(465,000 characters) in windows of 32; two seeds, other starts and orders. The barrier is that of the mean loss of all
characters of held-out windows, each given those before it, 11 points of the line; steps of the loss half-way lower the
same loss. No symmetry is written by hand: `nv.paths.symmetries` finds them from
the graph. One JSON file in ``results/transformers.json``; what stands there is not run again.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import gettempdir
from typing import Any, ClassVar

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

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, Norm(width), Norm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in "qkvo")
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block."""
        h = self.norm1(x)
        q, k, v = (m(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.q, self.k, self.v))
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
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


def trained(text: Tensor, symbols: int, width: int, layers: int, steps: int, seed: int) -> Decoder:
    """A decoder of this seed, trained on all positions of windows."""
    torch.manual_seed(seed)
    net = Decoder(symbols, width, layers)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.1)
    rng = torch.Generator().manual_seed(seed)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - step / steps)
        starts = torch.randint(len(text) - CONTEXT, (32,), generator=rng)
        rows = torch.stack([text[s : s + CONTEXT + 1] for s in starts])
        logits = net.head(net.stream(rows[:, :-1]))
        optimiser.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    return net.eval()


def pair(text: Tensor, symbols: int, width: int, layers: int, steps: int, kept: Path) -> tuple[Decoder, Decoder]:
    """Two seeds' decoders; trained ones are kept in a folder."""
    found = []
    for seed in (0, 1):
        file = kept / f"{layers}x{width}-{steps}-{seed}.pt"
        if not file.exists():
            kept.mkdir(parents=True, exist_ok=True)
            torch.save(trained(text, symbols, width, layers, steps, seed).state_dict(), file)
        net = Decoder(symbols, width, layers).eval()
        net.load_state_dict(torch.load(file, weights_only=True))
        found.append(net)
    return found[0], found[1]


def run(width: int, layers: int, steps: int, matching: int, kept: Path, only: list[str]) -> None:
    """One pair; arms that stand in the file are not run again."""
    text, symbols = characters()
    cut = int(0.9 * len(text))
    first, second = pair(text[:cut], symbols, width, layers, steps, kept)
    a, b = first.state_dict(), second.state_dict()
    train, test = windows(text[:cut], WINDOWS, 0), windows(text[cut:], 1000, 1)
    target = nv.Target(first, Characters(symbols))
    found = nv.paths.symmetries(first, train.x[:50])
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    fresh: dict[str, Any] = {
        "width": width, "layers": layers, "training_steps": steps, "matching_steps": matching, "windows": WINDOWS,
        "symbols": symbols, "coverage": found.coverage, "error": found.verify(1), "arms": {},
    }  # fmt: skip
    result = record.setdefault(f"{layers}x{width}", fresh)
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
        row = {"barrier": line.height, "stderr": line.stderr, "cpu_seconds": round(spent, 1)}
        result["arms"][what] = row | {"ends": [float(line.loss[0]), float(line.loss[-1])]}
        print(what, result["arms"][what], flush=True)
        write(RESULTS, {**record, "environment": environment()})


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--kept", type=Path, default=Path(gettempdir()) / "novacula", help="folder of trained networks")
    parser.add_argument("--only", action="append", default=[], help="an arm, as 'permutations: data'; repeat")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.small:
        run(32, 1, 300, 300, options.kept, options.only)
    else:
        run(128, 2, 550, 160, options.kept, options.only)


if __name__ == "__main__":
    main()
