"""Small networks of layers that are seldom met, and of parameters that are not as usual."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from zoo import Case


def then(*layers: nn.Module, classes: int = 3, width: int = 4) -> nn.Sequential:
    """Layers, and a linear one on what they give."""
    return nn.Sequential(*layers, nn.Linear(width, classes))


class Symmetric(nn.Module):
    """A parametrisation: the upper triangle and its mirror."""

    def forward(self, w: Tensor) -> Tensor:
        return w.triu() + w.triu(1).transpose(-1, -2)


class Softplus(nn.Module):
    """A parametrisation: weights that are positive."""

    def forward(self, w: Tensor) -> Tensor:
        return F.softplus(w)


def parametrised() -> nn.Module:
    net = then(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh())
    parametrize.register_parametrization(net[0], "weight", Symmetric())
    parametrize.register_parametrization(net[2], "weight", Softplus())
    return net


def spectral(old: bool) -> nn.Module:
    norm = nn.utils.spectral_norm if old else parametrizations.spectral_norm
    return then(norm(nn.Linear(4, 5)), nn.ReLU(), norm(nn.Linear(5, 4)), nn.ReLU())


def orthogonal() -> nn.Module:
    return then(parametrizations.orthogonal(nn.Linear(4, 4)), nn.Tanh())


def weight_normed() -> nn.Module:
    return then(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Tanh())


class RBF(nn.Module):
    """Radial basis functions with learned centres and widths."""

    def __init__(self) -> None:
        super().__init__()
        self.centres, self.log_widths = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.zeros(5))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        square = (x.unsqueeze(1) - self.centres).square().sum(-1)
        return self.head(torch.exp(-square * torch.exp(-2 * self.log_widths)))


class RBFByCdist(RBF):
    """The same by `torch.cdist`."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.exp(-torch.cdist(x, self.centres) * torch.exp(-self.log_widths)))


class FourierFeatures(nn.Module):
    """Tancik et al. 2020: fixed random frequencies, kept in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("b", torch.randn(3, 4))
        self.net = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        p = 2 * math.pi * x @ self.b
        return self.net(torch.cat([torch.sin(p), torch.cos(p)], -1))


class Sine(nn.Module):
    """A layer of SIREN, Sitzmann et al. 2020."""

    def __init__(self, inputs: int, outputs: int, omega: float) -> None:
        super().__init__()
        self.omega, self.linear = omega, nn.Linear(inputs, outputs)
        with torch.no_grad():
            self.linear.weight.uniform_(-1 / inputs, 1 / inputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * self.linear(x))


class Splines(nn.Module):
    """A layer of KAN, Liu et al. 2024: a piecewise linear function on each edge, beside a fixed activation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-2, 2, 5))
        self.base = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.spline = nn.Parameter(0.3 * torch.randn(outputs, inputs, 5))

    def forward(self, x: Tensor) -> Tensor:
        hats = (1 - (x.unsqueeze(-1) - self.grid).abs()).clamp(min=0)
        return F.linear(F.silu(x), self.base) + torch.einsum("big,oig->bo", hats, self.spline)


class ComplexInside(nn.Module):
    """Complex numbers inside, from parameters that are pairs of real ones; a modulus is taken at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(4, 3, 2)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        w = torch.view_as_complex(self.weight)
        return self.head((torch.complex(x, x.flip(-1)) @ w.T).abs())


class ComplexWeights(nn.Module):
    """Parameters that are complex."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(4, 3, dtype=torch.cfloat)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.to(self.weight.dtype) @ self.weight.T).abs().to(x.dtype))


class FourierOperator(nn.Module):
    """A layer of FNO, Li et al. 2021: low frequencies are multiplied by (real) weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weights, self.skip, self.head = nn.Parameter(torch.randn(2, 3, 3, 2)), nn.Conv1d(2, 3, 1), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        modes = torch.fft.rfft(x)[..., :3]
        out = torch.einsum("bim,iom->bom", modes, torch.view_as_complex(self.weights))
        return self.head(F.gelu(torch.fft.irfft(out, n=x.shape[-1]) + self.skip(x)).mean(-1))


class Einsums(nn.Module):
    """No layer at all: parameters and `einsum`."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.b = (nn.Parameter(torch.randn(s) / 2) for s in ((4, 2, 3), (2, 3, 3), (3,)))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(torch.einsum("bi,ihd->bhd", x, self.w1))
        return torch.einsum("bhd,hdo->bo", h, self.w2) + self.b


class Sliced(nn.Module):
    """A slimmable layer: parts of one large weight serve as several."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.bias = nn.Parameter(torch.randn(7, 5) / 2), nn.Parameter(torch.zeros(7))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(F.linear(x, self.large[:5, :4], self.bias[:5]))
        return F.linear(h, self.large[-3:], self.bias[-3:])


class Listed(nn.Module):
    """Parameters in lists and dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(4, 4) / 2) for _ in range(2)])
        self.named = nn.ParameterDict({"scale": nn.Parameter(torch.ones(4)), "out": nn.Parameter(torch.randn(4, 3))})

    def forward(self, x: Tensor) -> Tensor:
        for w in self.weights:
            x = torch.tanh(x @ w) * self.named["scale"]
        return x @ self.named["out"]


class Masked(nn.Module):
    """A pruned layer whose mask is a buffer, as MADE and lottery tickets have it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.register_buffer("mask", (torch.arange(20).view(5, 4) % 3 > 0).float())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(F.linear(x, self.linear.weight * self.mask, self.linear.bias)))


def pruned() -> nn.Module:
    from torch.nn.utils import prune

    net = then(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU())
    prune.random_unstructured(net[0], "weight", amount=0.3)
    return net


class LoRA(nn.Module):
    """Hu et al. 2022: a frozen layer, and a product of two thin ones beside it; none of these is zero here."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.head = nn.Linear(4, 5), nn.Linear(5, 3)
        self.a, self.b = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(5, 2))
        self.base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.base(x) + F.linear(F.linear(x, self.a), self.b)))


class FrozenBody(nn.Module):
    """A body that is frozen, with running statistics, and a head that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True))
        self.head = nn.Linear(5, 3)
        self.body.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.body(x)
        return self.head(h)


class UnusedHead(nn.Module):
    """A second head that is never called, and a parameter that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.other = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 2)
        self.spare = nn.Parameter(torch.randn(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)))


class Lazy(nn.Module):
    """Layers that find out their sizes from a first batch, which has been given."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))
        self.net(torch.zeros(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Quadratic(nn.Module):
    """`nn.Bilinear` of an input with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.bilinear, self.head = nn.Bilinear(3, 2, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.bilinear(x[:, :3], x[:, 3:])))


class Cosine(nn.Module):
    """A classifier by angles, with a learned temperature: normalised features and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.weight = nn.Linear(4, 5), nn.Parameter(torch.randn(3, 5))
        self.log_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.body(x))
        return self.log_scale.exp() * F.linear(F.normalize(h, dim=-1), F.normalize(self.weight, dim=-1))


class Prototypes(nn.Module):
    """Snell et al. 2017: logits are distances to learned means, divided by a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.means = nn.Sequential(nn.Linear(4, 5), nn.ReLU()), nn.Parameter(torch.randn(3, 5))
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return -(self.body(x).unsqueeze(1) - self.means).pow(2).sum(-1) / self.temperature


class GatedUnits(nn.Module):
    """GLU, SwiGLU and a highway layer, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.glu = nn.Sequential(nn.Linear(4, 10), nn.GLU())
        self.w, self.v, self.transform, self.carry = (nn.Linear(5, 5, bias=False) for _ in range(4))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.glu(x)
        x = F.silu(self.w(x)) * self.v(x)
        t = torch.sigmoid(self.carry(x))
        return self.head(t * torch.relu(self.transform(x)) + (1 - t) * x)


class Maxout(nn.Module):
    """Goodfellow et al. 2013."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.head = nn.Linear(4, 15), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lin(x).view(-1, 5, 3).max(-1).values)


class RMSNorm(nn.Module):
    """As Llama's is written, in the precision of float32 at least."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class NeuralTree(nn.Module):
    """A soft decision tree: leaves weighted by products of gates."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.leaves = nn.Linear(4, 3), nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        g = torch.sigmoid(self.gates(x))
        left, right = torch.stack([g[:, 0], 1 - g[:, 0]], 1), torch.stack([g[:, 1:], 1 - g[:, 1:]], 2)
        return (left.unsqueeze(-1) * right).flatten(1) @ self.leaves


class Factorisation(nn.Module):
    """Factorisation machine, Rendle 2010, on symbols: sums of products of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.factors, self.bias = nn.Embedding(7, 3), nn.Embedding(7, 6), nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        v = self.factors(x).unflatten(-1, (3, 2))
        pairs = (v.sum(1).square() - v.square().sum(1)).sum(-1) / 2
        return self.linear(x).sum(1) + pairs + self.bias


class Ensemble(nn.Module):
    """Several networks whose logits are averaged, one of them in a list that shares its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList([nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)) for _ in range(2)])
        self.again = nn.ModuleList([self.members[0]])

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([m(x) for m in (*self.members, *self.again)]).mean(0)


class Noisy(nn.Module):
    """A factorised noisy layer, Fortunato et al. 2018, that is quiet in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.mu, self.sigma = nn.Parameter(torch.randn(5, 4) / 2), nn.Parameter(torch.full((5, 4), 0.1))
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        w = self.mu + self.sigma * torch.randn_like(self.sigma) if self.training else self.mu
        return self.head(torch.relu(F.linear(x, w)))


class BatchDependent(nn.Module):
    """A network that centres its features over the batch: it has no output for an example alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return self.head(torch.tanh(h - h.mean(0)))


class Straight(torch.autograd.Function):
    """The sign of a number, whose gradient passes through."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: object, *cotangents: Tensor) -> Tensor:
        return cotangents[0]


class Binary(nn.Module):
    """Binary weights by a function of autograd with a gradient of its own, in the old style."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(5, 4)), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(F.linear(x, Straight.apply(self.weight)) / 2))


class Quantised(nn.Module):
    """Van den Oord et al. 2017: the nearest code, with the straight-through trick of detached differences."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.codes, self.head = nn.Linear(4, 3), nn.Embedding(5, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.enter(x)
        q = self.codes(torch.cdist(z, self.codes.weight).argmin(1))
        return self.head(z + (q - z).detach() + 0.1 * torch.tanh(q))


class ValueBranch(nn.Module):
    """Python that looks at the numbers: another path for a batch with a large entry."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = [self.two(row) if float(row.sum()) > 0 else self.one(row) for row in x]
        return self.head(torch.tanh(torch.stack(rows)))


def compiled() -> nn.Module:
    return torch.compile(then(nn.Linear(4, 4), nn.Tanh()), backend="eager")  # type: ignore[return-value]


SPECIMENS = (
    Case("parametrised", parametrised, (4,), 3),
    Case("spectral_norm", lambda: spectral(old=False), (4,), 3),
    Case("spectral_norm_hook", lambda: spectral(old=True), (4,), 3),
    Case("orthogonal", orthogonal, (4,), 3),
    Case("weight_norm", weight_normed, (4,), 3),
    Case("rbf", RBF, (3,), 3),
    Case("rbf_cdist", RBFByCdist, (3,), 3),
    Case("fourier_features", FourierFeatures, (3,), 3),
    Case("siren", lambda: then(Sine(3, 5, 6.0), Sine(5, 4, 2.0)), (3,), 3),
    Case("kan_splines", lambda: nn.Sequential(Splines(3, 4), Splines(4, 3)), (3,), 3),
    Case("complex_inside", ComplexInside, (3,), 3),
    Case("complex_weights", ComplexWeights, (3,), 3),
    Case("fourier_operator", FourierOperator, (2, 6), 3),
    Case("einsum_only", Einsums, (4,), 3),
    Case("sliced_weights", Sliced, (4,), 3),
    Case("parameter_lists", Listed, (4,), 3),
    Case("masked_weights", Masked, (4,), 3),
    Case("pruned", pruned, (4,), 3),
    Case("lora", LoRA, (4,), 3),
    Case("frozen_body", FrozenBody, (4,), 3),
    Case("unused_head", UnusedHead, (4,), 3),
    Case("lazy", Lazy, (4,), 3),
    Case("bilinear", Quadratic, (5,), 3),
    Case("cosine_classifier", Cosine, (4,), 3),
    Case("prototypes", Prototypes, (4,), 3),
    Case("gated_units", GatedUnits, (4,), 3),
    Case("maxout", Maxout, (4,), 3),
    Case("rms_norm", lambda: then(nn.Linear(4, 5), RMSNorm(5), nn.SiLU(), width=5), (4,), 3),
    Case("rms_norm_of_torch", lambda: then(nn.Linear(4, 5), nn.RMSNorm(5), nn.SiLU(), width=5), (4,), 3),
    Case("prelu", lambda: then(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 4), nn.PReLU()), (3,), 3),
    Case(
        "instance_norm",
        lambda: then(
            nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ),
        (2, 5, 5), 3,
    ),
    Case(
        "instance_norm_own_statistics",
        lambda: then(
            nn.Conv1d(2, 4, 3), nn.InstanceNorm1d(4, affine=True), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten()
        ),
        (2, 7), 3,
    ),
    Case(
        "local_response_norm",
        lambda: then(nn.Conv2d(2, 4, 3), nn.LocalResponseNorm(2), nn.MaxPool2d(3), nn.Flatten()),
        (2, 5, 5), 3,
    ),
    Case(
        "conv3d",
        lambda: then(
            nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2), nn.ReLU(inplace=True), nn.Conv3d(2, 4, 2), nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
        ),
        (1, 4, 4, 4), 3,
    ),
    Case(
        "transposed_1d",
        lambda: then(nn.ConvTranspose1d(2, 4, 3, stride=2), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()),
        (2, 4), 3,
    ),
    Case(
        "depthwise_dilated",
        lambda: then(
            nn.Conv2d(3, 6, 3, groups=3, dilation=2, padding="same", padding_mode="reflect"), nn.SELU(inplace=True),
            nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ),
        (3, 6, 6), 3,
    ),
    Case("soft_tree", NeuralTree, (4,), 3),
    Case("factorisation_machine", Factorisation, (4,), 3, tokens=7),
    Case("averaged_networks", Ensemble, (4,), 3),
    Case("noisy_layer", Noisy, (4,), 3),
    Case("centred_over_batch", BatchDependent, (4,), 3),
    Case("binary_weights", Binary, (4,), 3),
    Case("quantised_codes", Quantised, (4,), 3),
    Case("branch_on_values", ValueBranch, (4,), 3),
    Case("float64", lambda: then(nn.Linear(4, 4), nn.Tanh()).double(), (4,), 3),
    Case("compiled", compiled, (4,), 3),
)  # fmt: skip
