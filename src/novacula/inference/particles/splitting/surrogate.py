"""Moves of what is beneath a network's last layer, along which the last layer follows.

Close to a fit, all that changes a network's outputs by more than its margins is refused, and elliptical moves of all
weights become short. But other features φ can give nearly the same outputs by another last layer. With weights v of the
last layer, whitened so that ``v ~ N(0, I)``, outputs ``f = φ v``, and surrogates of these outputs

    g = f + σ ε,        log σ ~ N(log rms f, ½²),

the last layer given g and σ is Gaussian, ``v = m + L⁻ᵀ ν`` with ``L Lᵀ = I + φᵀφ/σ²`` and ``m = (L Lᵀ)⁻¹ φᵀg/σ²``,
where ν is standard normal and independent of the rest. At held g, σ and ν the weights beneath turn under the prior
times ``N(g; 0, φφᵀ + σ²I)`` and the density of σ, by an elliptical slice, and m and L follow φ. Then ν alone turns:
that costs no evaluation of the network. All of it leaves the prior above the level as it is.

References:
    Slice sampling covariance hyperparameters of latent Gaussian models. I. Murray, R. P. Adams, 2010. arXiv:1006.0868.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.params import Params, count, unflatten
from novacula.data.data import Data
from novacula.inference.hamiltonian.trajectory import normal
from novacula.inference.particles.splitting.moves import deviations, turn
from novacula.target import Target
from novacula.target.heads import Heads, heads_of
from novacula.target.margins import closeness

_WIDEST = 256  # features, as each network takes their number's cube
_TURNS = 6  # of ν alone
_SPREAD = 0.5
_FLOATS = 2**24  # features that are held at once, about


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The moves of one target."""

    heads: Heads
    like: Params
    scale: Tensor  # standard deviations of all weights, ``(P,)``
    places: Tensor  # of the last layer's among them, ``(D, C)``; the bias is its last row

    @classmethod
    def of(cls, target: Target, data: Data, *, seed: int) -> Surrogate | None:
        """The moves of a target; None without layers that follow: of networks with no other weights, or wide ones."""
        like = target.params()
        try:
            heads = heads_of(target, data, seed=seed)
        except InputError:
            return None
        index = unflatten(torch.arange(count(like)), like)
        own = {a: index[k] for k, a in heads.names.items()}
        places = torch.cat([own["weight"].T, *(w[None] for k, w in own.items() if k == "bias")])
        if not heads.mirrored or places.numel() == count(like) or len(places) > _WIDEST:
            return None
        return cls(heads, like, deviations(target.prior, like), places)

    def move(
        self, q: Tensor, score: Tensor, level: Tensor, arcs: Tensor, times: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, int, Tensor]:
        """Rows of q ``(R, P)``, with arcs ``(R, 2)`` beneath and above: as `elliptical`, with tries ``(R, 2)``."""
        q, score, spent, tried = q.clone(), score.clone(), len(q), torch.zeros_like(arcs)
        size = max(1, _FLOATS // (self.heads.data.n * len(self.places)))
        for at in (slice(i, i + size) for i in range(0, len(q), size)):
            phi = self._features(q[at])
            for _ in range(times):
                now = self._once(q[at], score[at], phi, level[at], arcs[at], rng)
                spent, tried[at] = spent + int(now[:, 0].sum()), tried[at] + now / times
        return q, score, spent, tried

    def _once(self, q: Tensor, score: Tensor, phi: Tensor, level: Tensor, arcs: Tensor, rng: torch.Generator) -> Tensor:
        # Positions, scores and features change where they are.
        v = q[:, self.places] / self.scale[self.places]
        f, d = phi @ v, v.shape[1]
        sigma = (_log_rms(f) + _SPREAD * normal(f[:, 0, 0], rng)).exp()
        g = f + sigma[:, None, None] * normal(f, rng)
        mean, root, dense = _given(phi, g, sigma)
        nu = root.mT @ (v - mean)
        floor = dense + _of_noise(sigma, f) + torch.rand(len(q), generator=rng, dtype=torch.float64).log()

        def inside(rows: Tensor, f: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
            value = closeness(f, self.heads.data.y).cpu()
            return value, (value > level[rows]) & (dense + _of_noise(sigma[rows], f) > floor[rows])

        def beneath(rows: Tensor, turned: Tensor) -> Tensor:
            new = self._features(turned)
            m, r, p = _given(new, g[rows], sigma[rows])
            v = m + _spread(r, nu[rows])
            value, found = inside(rows, new @ v, p)
            kept = rows[found]
            q[kept], score[kept], phi[kept] = self._with(turned, v)[found], value[found], new[found]
            mean[kept], root[kept], dense[kept] = m[found], r[found], p[found]
            return found

        def above(rows: Tensor, turned: Tensor) -> Tensor:
            new = turned.view(-1, *now.shape[1:])
            value, found = inside(rows, centre[rows] + new[:, d:], dense[rows])
            now[rows[found]], score[rows[found]] = new[found], value[found]
            return found

        def with_outputs(nu: Tensor) -> Tensor:
            return torch.cat([nu, phi @ _spread(root, nu)], 1)

        tried = turn(q.clone(), self.scale * normal(q, rng), arcs[:, 0], beneath, rng)
        # Outputs turn along with ν, as they are linear in it.
        centre, now, last = phi @ mean, with_outputs(nu), torch.zeros_like(tried)
        for _ in range(_TURNS):
            last += turn(now.flatten(1), with_outputs(normal(nu, rng)).flatten(1), arcs[:, 1], above, rng) / _TURNS
        self._with(q, mean + _spread(root, now[:, :d]))
        return torch.stack([tried, last], 1)

    def _features(self, q: Tensor) -> Tensor:
        # Times the deviations of the weights that they meet, ``(R, N, D)``.
        phi = self.heads.features(unflatten(q, self.like))
        bias = torch.ones(*phi.shape[:2], len(self.places) - phi.shape[2]).to(phi)
        return torch.cat([phi, bias], -1) * self.scale[self.places[:, 0]]

    def _with(self, q: Tensor, v: Tensor) -> Tensor:
        q[:, self.places] = v * self.scale[self.places]
        return q


def _given(phi: Tensor, g: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # Last layers' mean and root given surrogates ``(R, N, C)``, and the surrogates' log-density but for a constant.
    over = phi.mT / sigma.square()[:, None, None]
    root, _ = torch.linalg.cholesky_ex(over @ phi + torch.eye(phi.shape[2]).to(phi))  # of NaNs it is none either
    pulled = over @ g
    mean = torch.cholesky_solve(pulled, root)
    log_det = 2 * g.shape[2] * root.diagonal(dim1=1, dim2=2).double().log().sum(1)
    whole = (g / sigma[:, None, None]).double().square().sum((1, 2))
    return mean, root, -0.5 * (log_det + whole - (pulled * mean).double().sum((1, 2))).cpu()


def _spread(root: Tensor, nu: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(root.mT, nu, upper=True)


def _of_noise(sigma: Tensor, f: Tensor) -> Tensor:
    # Log-density of σ at outputs f ``(R, N, C)``, but for a constant.
    return -0.5 * ((sigma.log() - _log_rms(f)).double() / _SPREAD).square().cpu()


def _log_rms(f: Tensor) -> Tensor:
    return f.square().mean((1, 2)).log() / 2
