"""Pairs of a Llama, a Swin transformer and a U-Net that were trained apart, matched by the symmetries of each.

    python -m benchmarks.families              # three pairs: five CPU minutes
    python -m benchmarks.families --only swin

The Llama is `transformers`' own (two layers of 64, four heads, two of keys, rotary embeddings) on the characters of
`benchmarks.transformers`; the others are small, on scikit-learn's digits (1,400 for training, 397 for the barrier):
windows of 2 × 2 that are shifted, two blocks of 32 on patches of 2 × 2; two halvings with skips, 16, 24 and 32
channels, whose map of logits is averaged. Two seeds each, other starts and orders. No symmetry is written by hand. One
JSON file in ``results/families.json``; what stands there is not run again.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from tempfile import gettempdir

import torch
from torch import Tensor, nn

import novacula as nv
from benchmarks.transformers import CONTEXT, Characters, characters, drawn, pair, run, windows

RESULTS = Path(__file__).parent / "results" / "families.json"
ARMS = ["as they are", *(f"permutations: {by}" for by in ("weights", "data", "steps"))]
MORE = {
    "llama": ["and orthogonal: weights", "and orthogonal: steps", "and invertible: weights", "and invertible: steps"],
    "swin": ["and invertible: weights", "and invertible: steps"],
    "unet": ["and invertible: weights", "and invertible: steps"],
}
"""Arms beside permutations, by what there is."""


class Llama(nn.Module):
    """Logits of the characters after each of a window's."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        self.model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=symbols, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                intermediate_size=128, max_position_embeddings=CONTEXT, use_cache=False,
            )
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``(N, CONTEXT · symbols)``."""
        return self.model(input_ids=x.long()).logits.flatten(1)


class Windows(nn.Module):
    """Attention within windows of 2 × 2 of a grid, which may be shifted, and a perceptron."""

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.heads, self.shift = heads, shift
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, 4, 4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """A grid ``(N, H, W, C)`` after the block."""
        n, h, w, c = x.shape
        y = torch.roll(self.norms[0](x), (-self.shift, -self.shift), (1, 2))
        y = y.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = self.qkv(y).view(-1, 4, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = ((q @ k.mT) * (c // self.heads) ** -0.5 + self.bias).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, 4, c))
        y = y.view(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        x = x + torch.roll(y, (self.shift, self.shift), (1, 2))
        return x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))


class Swin(nn.Module):
    """Two blocks, a merge of patches, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.blocks = nn.Conv2d(1, 32, 2, 2), nn.Sequential(Windows(32, 4, 0), Windows(32, 4, 1))
        self.merge, self.norm, self.head = nn.Linear(128, 32, bias=False), nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h = self.blocks(self.patches(x).permute(0, 2, 3, 1))
        parts = [h[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.head(self.norm(self.merge(torch.cat(parts, -1))).mean((1, 2)))


def layer(inputs: int, outputs: int) -> nn.Module:
    """A convolution, a norm of all channels, and rectified units."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(1, outputs), nn.ReLU())


class Unet(nn.Module):
    """Down twice, up twice, with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = layer(1, 16), layer(16, 24), layer(24, 32)
        self.up2, self.left2 = nn.ConvTranspose2d(32, 24, 2, 2), layer(48, 24)
        self.up1, self.left1, self.out = nn.ConvTranspose2d(24, 16, 2, 2), layer(32, 16), nn.Conv2d(16, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        one = self.one(x)
        two = self.two(nn.functional.max_pool2d(one, 2))
        three = self.three(nn.functional.max_pool2d(two, 2))
        two = self.left2(torch.cat([two, self.up2(three)], 1))
        return self.out(self.left1(torch.cat([one, self.up1(two)], 1))).mean((2, 3))


def images(name: str, kept: Path) -> None:
    """A pair on digits."""
    digits = nv.load("digits")
    train, test = digits.subset(range(1400)), digits.subset(range(1400, digits.n))

    def batch(rng: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(train.n, (64,), generator=rng)
        return train.x[rows], train.y[rows]

    nets = pair(name, Swin if name == "swin" else Unet, batch, 400, kept)
    about = {"weights": sum(w.numel() for w in nets[0].parameters()), "training_steps": 400}
    run(name, about, nets, nv.Target(nets[0]), (train, test), 100, [*ARMS, *MORE[name]], RESULTS)


def llama(kept: Path) -> None:
    """A pair on characters."""
    text, symbols = characters()
    cut = int(0.9 * len(text))
    nets = pair("llama", lambda: Llama(symbols), drawn(text[:cut]), 300, kept)
    about = {"weights": sum(w.numel() for w in nets[0].parameters()), "training_steps": 300}
    parts = windows(text[:cut], 20_000, 0), windows(text[cut:], 500, 1)
    run("llama", about, nets, nv.Target(nets[0], Characters(symbols)), parts, 100, [*ARMS, *MORE["llama"]], RESULTS)


def summary() -> str:
    """A table in Markdown."""
    lines = ["| network | arm | barrier | half-way right | CPU-s |", "| --- | --- | ---: | ---: | ---: |"]
    for name, pair_ in json.loads(RESULTS.read_text()).items() if RESULTS.exists() else ():
        for arm, row in pair_.get("arms", {}).items():
            right = f"{row['accuracy'][1]:.3f}" if "accuracy" in row else "–"
            cells = f"{row['barrier']:.3f} ± {row['stderr']:.3f} | {right} | {row['cpu_seconds']:.1f}"
            lines.append(f"| {name} | {arm} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(MORE), action="append")
    parser.add_argument("--summary", action="store_true")
    parser.add_argument("--kept", type=Path, default=Path(gettempdir()) / "novacula", help="folder of trained networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in [] if options.summary else options.only or list(MORE):
        llama(options.kept) if name == "llama" else images(name, options.kept)
    print(summary())


if __name__ == "__main__":
    main()
