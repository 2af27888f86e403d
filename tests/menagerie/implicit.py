"""Networks whose output solves an equation, or whose weights are made by other networks or used again."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from zoo import Case


class FixedPoint(nn.Module):
    """A deep equilibrium, Bai et al. 2019: iterated without a graph, then one step with it."""

    def __init__(self, unrolled: bool) -> None:
        super().__init__()
        self.enter, self.again, self.head, self.unrolled = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3), unrolled
        nn.init.normal_(self.again.weight, 0, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        u = self.enter(x)
        z = torch.zeros_like(u)
        with torch.set_grad_enabled(self.unrolled and torch.is_grad_enabled()):
            for _ in range(8):
                z = torch.tanh(self.again(z) + u)
        return self.head(torch.tanh(self.again(z) + u))


class ImplicitDifferentiation(nn.Module):
    """A deep equilibrium whose gradient is that of the fixed point, by a hook that solves the adjoint equation."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        nn.init.normal_(self.again.weight, 0, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        u = self.enter(x)
        with torch.no_grad():
            z = torch.zeros_like(u)
            for _ in range(40):
                z = torch.tanh(self.again(z) + u)
        z = torch.tanh(self.again(z) + u)
        if z.requires_grad:
            z0 = z.detach().requires_grad_()
            f0 = torch.tanh(self.again(z0) + u)

            def adjoint(grad: Tensor) -> Tensor:
                g = grad
                for _ in range(40):
                    g = torch.autograd.grad(f0, z0, g, retain_graph=True)[0] + grad
                return g

            z.register_hook(adjoint)
        return self.head(z)


class NeuralODE(nn.Module):
    """Chen et al. 2018, by steps of Euler or of Runge and Kutta; time is an input."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        self.method, self.head = method, nn.Linear(3, 3)

    def slope(self, t: float, x: Tensor) -> Tensor:
        return self.field(torch.cat([x, torch.full_like(x[:, :1], t)], 1))

    def forward(self, x: Tensor) -> Tensor:
        h = 0.25
        for i in range(4):
            t = i * h
            k1 = self.slope(t, x)
            if self.method == "euler":
                x = x + h * k1
                continue
            k2 = self.slope(t + h / 2, x + h / 2 * k1)
            k3 = self.slope(t + h / 2, x + h / 2 * k2)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + self.slope(t + h, x + h * k3))
        return self.head(x)


class Hamiltonian(nn.Module):
    """Greydanus et al. 2019: the output is a field that autograd makes of an energy, inside of the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x if x.requires_grad else x.requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return torch.cat([slope[:, 2:], -slope[:, :2]], 1)


class FunctionalGradient(nn.Module):
    """The same, by `torch.func`."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        slope = torch.func.vmap(torch.func.grad(lambda one: self.energy(one).squeeze()))(x)
        return torch.cat([slope[:, 2:], -slope[:, :2]], 1)


class Projection(nn.Module):
    """A layer that solves linear equations of its own: ridge regression of a learned dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.atoms, self.log_ridge = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        gram = self.atoms.T @ self.atoms + self.log_ridge.exp() * torch.eye(3, dtype=x.dtype, device=x.device)
        return self.head(torch.tanh(torch.linalg.solve(gram, (x @ self.atoms).T).T))


class Hypernetwork(nn.Module):
    """Ha et al. 2017: another network makes the weights of the layer, for each example its own."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.head = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 15)), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        condition, x = x[:, :2], x[:, 2:]
        weights = self.make(condition)
        w, b = weights[:, :12].view(-1, 3, 4), weights[:, 12:]
        return self.head(torch.tanh(torch.bmm(w, x.unsqueeze(-1)).squeeze(-1) + b))


class SharedHypernetwork(nn.Module):
    """A network of learned codes makes the weights of each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.make = nn.Parameter(torch.randn(2, 2)), nn.Linear(2, 20)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for code in self.codes:
            w = self.make(code)
            x = torch.tanh(F.linear(x, w[:16].view(4, 4), w[16:]))
        return self.head(x)


class Autoencoder(nn.Module):
    """Its decoder is the encoder transposed; the reconstruction is the output."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias, self.back = (
            nn.Parameter(t) for t in (torch.randn(3, 5), torch.randn(3), torch.randn(5))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(F.linear(x, self.weight, self.bias)), self.weight.t(), self.back)


class SharedBlocks(nn.Module):
    """One block of several layers, three times, with a norm of its own each time."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 4))
        self.norms, self.head = nn.ModuleList([nn.LayerNorm(4) for _ in range(3)]), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = x + self.block(norm(x))
        return self.head(x)


class Siamese(nn.Module):
    """One body for both halves of an input, and a head of how they differ."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 4)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.body(x[:, 0]) - self.body(x[:, 1])).square())


class Checkpointed(nn.Module):
    """A block whose activations are computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Sequential(nn.Linear(4, 5), nn.GELU()), nn.Sequential(nn.Linear(5, 4), nn.GELU())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.two, self.one(x), use_reentrant=False))


class Couplings(nn.Module):
    """Gomez et al. 2017: reversible blocks, each half of the features moved by the other."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = (nn.ModuleList([nn.Linear(3, 3) for _ in range(2)]) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        for f, g in zip(self.f, self.g, strict=True):
            a = a + torch.tanh(f(b))
            b = b + torch.tanh(g(a))
        return self.head(torch.cat([a, b], -1))


SPECIMENS = (
    Case("equilibrium_unrolled", lambda: FixedPoint(unrolled=True), (3,), 3),
    Case("equilibrium_one_step", lambda: FixedPoint(unrolled=False), (3,), 3),
    Case("equilibrium_adjoint", ImplicitDifferentiation, (3,), 3),
    Case("neural_ode_euler", lambda: NeuralODE("euler"), (3,), 3),
    Case("neural_ode_rk4", lambda: NeuralODE("rk4"), (3,), 3),
    Case("hamiltonian_autograd", Hamiltonian, (4,), 4),
    Case("hamiltonian_torch_func", FunctionalGradient, (4,), 4),
    Case("solver_layer", Projection, (4,), 3),
    Case("hypernetwork", Hypernetwork, (6,), 3),
    Case("hypernetwork_shared", SharedHypernetwork, (4,), 3),
    Case("autoencoder_tied", Autoencoder, (5,), 5),
    Case("shared_blocks", SharedBlocks, (4,), 3),
    Case("siamese", Siamese, (2, 3), 3),
    Case("checkpointed", Checkpointed, (4,), 3),
    Case("reversible_couplings", Couplings, (6,), 3),
)
