"""Small networks of every kind of layer, their inputs, and the naive answer that curvatures are held against.

All are float64, smooth unless said otherwise, seeded, in eval mode, with distinct sizes everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from novacula.core.forward import Forward
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.curvature.problem import Problem


class Attention(nn.Module):
    """`nn.MultiheadAttention`, averaged over time, then linear."""

    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=self.need_weights)[0].mean(1))


class ScaledDotProduct(nn.Module):
    """Attention written with `F.scaled_dot_product_attention` and one packed projection."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = nn.Linear(3, 12), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in self.project(x).chunk(3, -1))
        return self.head(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).mean(1))


class TiedModules(nn.Module):
    """Two linear layers that share one (square) weight and have a bias each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class TiedFunctional(nn.Module):
    """A layer whose weight is used again, transposed, outside of the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.head = nn.Linear(5, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.linear(torch.tanh(self.encode(x)), self.encode.weight.t())))


class TiedEmbedding(nn.Module):
    """A language model's tie: the embedding is the output layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(self.embed(x).mean(1))))


class Bare(nn.Module):
    """Parameters that belong to no layer: a matrix, a scale, a 0-d temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(4, 3))
        self.scale = nn.Parameter(1 + 0.1 * torch.randn(3))
        self.temperature = nn.Parameter(torch.tensor(0.7))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.temperature * self.head(torch.tanh(x @ self.matrix) * self.scale)


class Repeated(nn.Module):
    """One layer applied three times."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        for _ in range(3):
            h = h + torch.tanh(self.again(h))
        return self.head(h)


class Recurrent(nn.Module):
    """An LSTM's last state, then linear."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Residual(nn.Module):
    """A convolutional block with a skip connection and global pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        return self.head((h + torch.tanh(self.norm(self.conv(h)))).mean((2, 3)))


class Buffered(nn.Module):
    """A linear layer followed by a fixed affine map: no layer's output is the network's."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3))
        self.register_buffer("slope", torch.linspace(0.5, 2.0, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.slope + 1


def categorical(f: Tensor, y: Tensor) -> Tensor:
    """``L = diag(√p) − p √pᵀ``, so that ``L Lᵀ = diag(p) − p pᵀ``."""
    p = f.softmax(-1)
    return torch.diag_embed(p.sqrt()) - p.unsqueeze(-1) * p.sqrt().unsqueeze(-2)


def bernoulli(f: Tensor, y: Tensor) -> Tensor:
    """``L = diag(√(p(1 − p)))``."""
    return torch.diag_embed((f.sigmoid() * (-f).sigmoid()).sqrt())


def gaussian(log_sigma: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """``L = diag(1/σ)``, with one σ for all outputs or one for each."""
    return lambda f, y: torch.diag_embed(torch.exp(-log_sigma).expand_as(f))


def rank_one(f: Tensor, y: Tensor) -> Tensor:
    """A factor with fewer columns than outputs, which depends on ``f`` and ``y``."""
    return (torch.tanh(f) + 0.1 * y.to(f.dtype).unsqueeze(-1) + 1.5).unsqueeze(-1)


@dataclass(frozen=True)
class Case:
    """A network with inputs and a factor.

    ``make`` builds the module, in float64 and eval mode, from a fixed seed; ``inputs(n, s)`` gives ``xs (n, s, …)``;
    ``smooth`` says whether inputs are floats that a transformation may warp; ``outputs`` is C.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    outputs: int
    factor: Callable[[Tensor, Tensor], Tensor] = categorical
    tokens: int = 0

    @property
    def smooth(self) -> bool:
        return not self.tokens

    def make(self, *, double: bool = True) -> nn.Module:
        """The module, in float64 or as it was built, in eval mode, with norms moved off their defaults."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            module = self.build().eval()
            module = module.double() if double else module
            with torch.no_grad():
                for layer in module.modules():
                    if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None:
                        layer.running_mean.normal_(0, 0.5)
                        layer.running_var.uniform_(0.5, 2)
                    if isinstance(layer, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
                        for w, middle in ((layer.weight, 1), (layer.bias, 0)):
                            if w is not None:
                                w.normal_(middle, 0.3)
        return module

    def inputs(self, n: int, s: int) -> Tensor:
        """Inputs of shape ``(n, s, …)``, the same each time."""
        rng = generator(11, self.name)
        if self.tokens:
            return torch.randint(self.tokens, (n, s, *self.shape), generator=rng)
        return torch.randn(n, s, *self.shape, generator=rng, dtype=torch.float64)

    def labels(self, n: int) -> Tensor:
        """Class labels; other factors of this table ignore them or read them as numbers."""
        return torch.randint(self.outputs, (n,), generator=generator(12, self.name))

    def problem(
        self,
        n: int,
        s: int = 2,
        *,
        batch: int = 3,
        scale: float = 1.0,
        module: nn.Module | None = None,
        **kwargs: object,
    ) -> Problem:
        """The curvature's view of this case: ``n`` examples with ``s`` copies, in batches of ``batch``."""
        forward = Forward(self.make() if module is None else module)
        xs, y = self.inputs(n, s), self.labels(n)

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            return zip(xs.split(batch), y.split(batch), strict=True)

        fields: dict[str, object] = {"batches": batches, "factor": self.factor, **kwargs}
        return Problem(forward=forward, params=forward.params(), size=n, scale=scale, **fields)  # type: ignore[arg-type]


_OUT = torch.tensor([0.1, -0.3], dtype=torch.float64)

ZOO: list[Case] = [
    Case("mlp", lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), (5,), 3),
    Case("mlp_regression", lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), (3,), 2, gaussian(_OUT)),
    Case("mlp_multilabel", lambda: nn.Sequential(nn.Linear(3, 4), nn.ELU(), nn.Linear(4, 2)), (3,), 2, bernoulli),
    Case("mlp_rank_one", lambda: nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3)), (3,), 3, rank_one),
    Case("linear_only", lambda: nn.Linear(4, 3), (4,), 3),
    Case("linear_shared", lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 2)), (5, 3), 2),
    Case(
        "cnn",
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(3, 4, (2, 1), bias=False), nn.GELU(),
            nn.Flatten(), nn.Linear(24, 3),
        ),
        (2, 6, 5), 3,
    ),
    Case(
        "conv_grouped_dilated",
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 2, groups=2, dilation=2, padding="same", padding_mode="circular"), nn.Tanh(), nn.Flatten(),
            nn.Linear(120, 2),
        ),
        (4, 4, 5), 2,
    ),
    Case(
        "conv1d",
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, stride=2), nn.Tanh(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(6, 4)),
        (2, 9), 4,
    ),
    Case(
        "conv_transpose",
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(105, 2)),
        (2, 3, 2), 2,
    ),
    Case(
        "group_norm",
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU(), nn.Flatten(), nn.Linear(48, 3)
        ),
        (2, 3, 4), 3,
    ),
    Case(
        "batch_norm",
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 4), nn.BatchNorm1d(4),
            nn.Linear(4, 3),
        ),
        (2, 3, 4), 3,
    ),
    Case("layer_norm", lambda: nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 2)), (3,), 2),
    Case("attention", lambda: Attention(need_weights=False), (3, 4), 3),
    Case("attention_weights", lambda: Attention(need_weights=True), (3, 4), 3),
    Case("scaled_dot_product", ScaledDotProduct, (4, 3), 2),
    Case(
        "transformer",
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, dim_feedforward=5, activation="gelu", batch_first=True), nn.Flatten(),
            nn.Linear(12, 2),
        ),
        (3, 4), 2,
    ),
    Case("tied_modules", TiedModules, (4,), 3),
    Case("tied_functional", TiedFunctional, (5,), 2),
    Case("tied_embedding", TiedEmbedding, (3,), 6, tokens=6),
    Case("bare", Bare, (4,), 2),
    Case(
        "embedding",
        lambda: nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 2)),
        (4,), 2, tokens=5,
    ),
    Case("repeated", Repeated, (3,), 2),
    Case("residual", Residual, (2, 3, 4), 4),
    Case("lstm", Recurrent, (4, 3), 2),
    Case("buffered", Buffered, (4,), 3),
]  # fmt: skip


IN_PLACE = Case(
    "in_place",
    lambda: nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.ELU(inplace=True), nn.Flatten(), nn.Linear(12, 4), nn.SiLU(inplace=True),
        nn.Linear(4, 3),
    ),
    (1, 3, 3), 3,
)  # fmt: skip
"""Not in the table, as hooks must copy what it changes in place."""


def case(name: str) -> Case:
    """The case of that name."""
    return next(c for c in ZOO if c.name == name)


def naive_rows(problem: Problem, params: Params | None = None) -> Tensor:
    """``Lᵀ J`` of every example, one backward pass for each of its rows: ``(N, K, P)``, times ``√scale``."""
    w = {k: v.detach().requires_grad_() for k, v in (params or problem.params).items()}
    rows = []
    for xs, y in problem.batches():
        for i in range(len(xs)):
            f = torch.stack([problem.forward(w, x.unsqueeze(0))[0] for x in xs[i]]).mean(0)
            factor = problem.factor(f.unsqueeze(0), y[i : i + 1])[0]
            for k in range(factor.shape[1]):
                grads = torch.autograd.grad(
                    f,
                    list(w.values()),
                    factor[:, k].detach(),
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
                rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows).unflatten(0, (problem.size, -1)).detach() * problem.scale**0.5


def naive_dense(problem: Problem) -> Tensor:
    """H by the book: the sum over examples and factor columns of outer products, ``(P, P)``."""
    rows = naive_rows(problem).flatten(0, 1)
    return rows.T @ rows
