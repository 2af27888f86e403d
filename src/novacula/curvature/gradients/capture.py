"""Per-example gradients of any network in plain autograd: look at what its linear and convolution layers do.

A forward hook on every linear, convolution (`nn.Conv1d`, `nn.Conv2d`) and normalisation layer records what goes in and
what comes out (`Site`). One backward pass of ``Σ_n <v_n, f̄(x_n)>`` to the recorded outputs then gives every example's
own gradient,

    ∂<v_n, f̄(x_n)>/∂W = Σ_sites Σ_t b_nt a_ntᵀ,

with t over the positions, the transformed copies and the calls of the layer, so that repeated layers and weights
tied between layers are covered. There is no vmap in this: the results can be differentiated in any tensor that
``xs``, ``v`` or the weights depend on.

Whether a parameter is covered is *measured* (`cover`), never inferred from the kind of the layer. Weights that are also
used elsewhere (``F.linear`` with another layer's weight, a tied `nn.Embedding`, attention's packed projections), inputs
whose first axis is not the examples, wrapped or overridden layers: each makes the captured gradient differ from
the true one, and the parameter is then named ``uncovered``. `fallback_jacobian` serves these.

Example:
    >>> from torch import nn
    >>> net = Forward(nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)))
    >>> xs = torch.ones(5, 1, 3)
    >>> coverage = cover(net, net.params(), xs)
    >>> coverage.uncovered
    ('1.weight',)
    >>> captured = capture(coverage, net.params(), xs)
    >>> per_example_gradients(captured, torch.ones(5, 2))["0.weight"].shape
    torch.Size([5, 4, 3])

References:
    Efficient per-example gradient computations. I. Goodfellow, 2015. arXiv:1510.01799.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from novacula.core.attention import plain_attention
from novacula.core.forward import Forward
from novacula.core.layers import check_rows, steady
from novacula.core.params import Params
from novacula.core.rng import generator
from novacula.curvature.gradients.fallback import jacobian_by_loop, jacobian_by_vmap
from novacula.curvature.gradients.hooks import Captured, record

__all__ = [
    "Captured",
    "Coverage",
    "capture",
    "cover",
    "fallback_jacobian",
    "output_gradients",
    "per_example_gradients",
]


@dataclass(frozen=True, eq=False)
class Coverage:
    """What `cover` found out about a network.

    Args:
        forward: The network.
        covered: Parameters whose per-example gradients the sites give.
        uncovered: The others.
        rows: How many rows of each example layers see, by their names.
        copies: Whether layers' inputs and outputs must be copied, because the network changes them in place.
        vmaps: Whether `torch.func.vmap` gives the right Jacobian of the uncovered ones.
        anchor: A number that requires a gradient and never gets one; graphs that would start at a layer start here,
            so that all batches' graphs start from the same tensors.
    """

    forward: Forward
    covered: tuple[str, ...]
    uncovered: tuple[str, ...]
    rows: Mapping[str, frozenset[int]]
    copies: bool
    vmaps: bool
    anchor: Tensor


def capture(coverage: Coverage, params: Params, xs: Tensor) -> Captured:
    """Run the network once and record its sites.

    Gradient recording is switched on inside. Where nothing before a layer needs a gradient, the graph starts at that
    layer's output; detach ``xs`` when no gradient through the inputs is wanted.

    Returns:
        The record.

    Raises:
        InputError: If a layer that was covered when `cover` looked is now called with other rows of the examples on its
            first axis (a network that sends examples to its parts by their values).
        RuntimeError: If what a layer sees is now changed in place.
    """
    names = frozenset(coverage.covered)
    captured, intact = record(coverage.forward, params, xs, coverage.anchor, names, coverage.copies)
    if not intact:
        raise RuntimeError("the network changes in place what it left alone when its coverage was checked")
    for site in captured.sites:
        check_rows(site.layer, site.output.shape[0], site.examples * site.copies, coverage.rows[site.layer])
    return captured


def output_gradients(captured: Captured, v: Tensor, *, create_graph: bool = False) -> list[Tensor]:
    """Backward to the sites: the gradient of ``Σ_n <v_n, f̄_n>`` with respect to each site's output; v ``(B, C)``."""
    nodes = [site.output for site in captured.sites]
    if not nodes or not captured.outputs.requires_grad:
        return [torch.zeros_like(node) for node in nodes]
    found = torch.autograd.grad(
        captured.outputs, nodes, v, retain_graph=True, create_graph=create_graph, allow_unused=True
    )
    return [torch.zeros_like(node) if g is None else g for node, g in zip(nodes, found, strict=True)]


def per_example_gradients(
    captured: Captured, v: Tensor, *, names: Sequence[str] | None = None, create_graph: bool = False
) -> Params:
    """Gradients of ``<v_n, f̄(x_n)>`` by covered parameters: v ``(B, C)`` or ``(B, C, K)`` to ``(B, [K,] *shape)``."""
    wanted = captured.covered if names is None else names
    if not wanted:
        return {}
    columns = v.unbind(-1) if v.ndim == 3 else (v,)
    found = [output_gradients(captured, column, create_graph=create_graph) for column in columns]
    total: Params = {}
    with torch.set_grad_enabled(create_graph):
        for site, *gradients in zip(captured.sites, *found, strict=True):
            for name, compute in ((site.weight, site.weight_gradients), (site.bias, site.bias_gradients)):
                if name in wanted:
                    g = compute(gradients)
                    total[name] = total[name] + g if name in total else g
    for name in wanted:
        if name not in total:  # The layer was not called for these inputs.
            total[name] = v.new_zeros(len(v), len(columns), *captured.params[name].shape)
    return {name: total[name] if v.ndim == 3 else total[name].squeeze(1) for name in wanted}


def fallback_jacobian(
    coverage: Coverage, params: Params, xs: Tensor, names: Sequence[str], *, create_graph: bool = False, chunk: int = 32
) -> Params:
    """Per-example Jacobians ``(B, C, *shape)`` by any parameters: by vmap, else by a loop over examples and outputs."""
    if not names:
        return {}
    if coverage.vmaps:
        return jacobian_by_vmap(coverage.forward, params, xs, names, create_graph=create_graph, chunk=chunk)
    return jacobian_by_loop(coverage.forward, params, xs, names, coverage.anchor, create_graph=create_graph)


def cover(forward: Forward, params: Params, xs: Tensor) -> Coverage:
    """Find out which parameters the sites cover, by comparison with each example's true gradient.

    At weights near ``params`` (so that a zero-initialised head hides nothing), in float64 where the network allows it,
    the captured gradients of two rows of a batch are compared with those of autograd on each of the examples alone.

    Args:
        forward: The network.
        params: The weights.
        xs: A batch of inputs ``(B, S, …)``; gradients are compared at up to three examples, of which a single one is
            doubled, and rows are counted at up to 16.

    Returns:
        The coverage. A parameter whose true gradient vanishes for both examples shows nothing, and counts as uncovered.
    """
    xs = xs.detach()[:16]
    xs = torch.cat([xs, xs]) if len(xs) == 1 else xs
    rng = generator(0, "coverage")
    point = {}
    for name, w in params.items():
        w = w.detach()
        noise = torch.randn(w.shape, generator=rng, dtype=torch.float64).to(w)
        point[name] = w + (0.1 * w.square().mean().sqrt() + 0.01) * noise
    with torch.enable_grad(), plain_attention():
        try:
            return _compare(forward, params, *_double(forward, point, xs), rng)
        except (RuntimeError, TypeError, ValueError):  # The network insists on a dtype.
            return _compare(forward, params, point, xs, rng)


def _double(forward: Forward, point: Params, xs: Tensor) -> tuple[Params, Tensor]:
    # Weights, frozen weights and buffers, and the inputs, in float64.
    state = {**dict(forward.module.named_parameters()), **dict(forward.module.named_buffers()), **point}
    double = {k: t.detach().double() if t.is_floating_point() else t.detach() for k, t in state.items()}
    return double, xs.double() if xs.is_floating_point() else xs


def _compare(forward: Forward, params: Params, point: Params, xs: Tensor, rng: torch.Generator) -> Coverage:
    names, rows = tuple(params), steady(forward, point, xs)
    xs = xs[:3]
    leaves = {name: point[name].detach().requires_grad_() for name in names}
    truth: list[Params] = []
    v = torch.empty(0)
    for n in range(2):
        f = forward.average({**point, **leaves}, xs[n : n + 1])
        if n == 0:
            v = torch.randn((len(xs), f.shape[1]), generator=rng, dtype=torch.float64).to(f)
        grads = torch.autograd.grad(
            (f[0] * v[n]).sum(), list(leaves.values()), allow_unused=True, materialize_grads=True, retain_graph=False
        )
        truth.append(dict(zip(names, grads, strict=True)))
    tolerance = torch.finfo(v.dtype).eps ** 0.5

    def agrees(found: Params, name: str) -> bool:
        if found[name].shape[1:] != truth[0][name].shape:  # a layer that is another than its kind
            return False
        errors = [float((found[name][n] - truth[n][name]).norm()) for n in range(2)]
        sizes = [float(truth[n][name].norm()) for n in range(2)]
        return max(sizes) > 0 and all(e <= tolerance * s for e, s in zip(errors, sizes, strict=True))

    anchor = torch.zeros((), requires_grad=True, device=v.device)
    found, copies = _try_capture(forward, point, xs, v, anchor, frozenset(names), rows)
    covered = tuple(name for name in names if name in found and agrees(found, name))
    uncovered = tuple(name for name in names if name not in covered)
    coverage = Coverage(forward, covered, uncovered, rows, copies, vmaps=True, anchor=anchor)
    return replace(coverage, vmaps=_vmap_agrees(coverage, point, xs, v, truth, agrees))


def _vmap_agrees(
    coverage: Coverage, point: Params, xs: Tensor, v: Tensor, truth: list[Params], agrees: Callable[[Params, str], bool]
) -> bool:
    # Whether vmap runs, without warnings, and gives the true gradients of the uncovered parameters.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # vmap warns where it falls back to a slow loop of its own.
            jacobian = fallback_jacobian(coverage, point, xs, coverage.uncovered)
    except (RuntimeError, NotImplementedError, ValueError, UserWarning):
        return False
    products = {name: torch.einsum("bc,bc...->b...", v, j) for name, j in jacobian.items()}
    zero = {name for name in products if not any(bool(t[name].any()) for t in truth)}
    return all(not bool(p[:2].any()) if name in zero else agrees(products, name) for name, p in products.items())


def _try_capture(
    forward: Forward,
    point: Params,
    xs: Tensor,
    v: Tensor,
    anchor: Tensor,
    names: frozenset[str],
    rows: Mapping[str, frozenset[int]],
) -> tuple[Params, bool]:
    # Captured gradients of every candidate, and whether copies were needed because the network works in place.
    for copies in (False, True):
        try:
            captured, intact = record(forward, point, xs, anchor, names, copies)
            if not intact:
                continue
            sites = tuple(site for site in captured.sites if site.regular and site.layer in rows)
            irregular = {n for site in captured.sites if site not in sites for n in (site.weight, site.bias)}
            seen = {n for site in sites for n in (site.weight, site.bias) if n is not None} - irregular
            captured = replace(captured, sites=sites, covered=tuple(name for name in point if name in seen))
            return per_example_gradients(captured, v), copies
        except RuntimeError:  # In-place work on a leaf; with copies it runs, or nothing is covered.
            continue
    return {}, False
