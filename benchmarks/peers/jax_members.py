"""The peer of `benchmarks.members`: networks by ``vmap``, Adam of Optax, compiled by JAX for one thread.

Started by `benchmarks.members` in an environment with JAX and Optax; needs no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import optax

from benchmarks.turns import Request, rate, serve

Layers = list[tuple[jax.Array, jax.Array]]
STEPS = 5  # of all networks in one program


def program(request: Request) -> Callable[[int], int]:
    sizes, members, rows, size = (request[k] for k in ("sizes", "members", "rows", "batch"))
    key = jax.random.key(0)
    x = jax.random.normal(key, (rows, sizes[0]))
    y = jax.random.randint(key, (rows,), 0, max(sizes[-1], 2))
    optimiser = optax.adam(request["lr"])

    def fresh(k: jax.Array) -> Layers:
        keys = jax.random.split(k, len(sizes))
        return [
            (jax.random.uniform(keys[i], (a, b), minval=-(a**-0.5), maxval=a**-0.5), jnp.zeros(b))
            for i, (a, b) in enumerate(pairwise(sizes))
        ]

    def loss(layers: Layers, xs: jax.Array, ys: jax.Array) -> jax.Array:
        h = xs
        for w, b in layers[:-1]:
            h = jax.nn.relu(h @ w + b)
        f = h @ layers[-1][0] + layers[-1][1]
        if sizes[-1] > 1:
            fit = -jnp.take_along_axis(jax.nn.log_softmax(f), ys[:, None], 1).mean()
        else:
            fit = optax.sigmoid_binary_cross_entropy(f[:, 0], ys.astype(f.dtype)).mean()
        return fit + 0.5 * request["precision"] / rows * sum(jnp.sum(v**2) for v in jax.tree.leaves(layers))

    def step(layers: Layers, state: Any, xs: jax.Array, ys: jax.Array) -> tuple[Layers, Any]:
        updates, state = optimiser.update(jax.grad(loss)(layers, xs, ys), state, layers)
        return optax.apply_updates(layers, updates), state

    every = jax.vmap(step, (0, 0, None, None))

    @jax.jit
    def run(carry: tuple[Layers, Any], first: jax.Array) -> tuple[Layers, Any]:
        def body(i: jax.Array, carry: tuple[Layers, Any]) -> tuple[Layers, Any]:
            at = (first + i) * size % (rows - size)
            xs, ys = jax.lax.dynamic_slice_in_dim(x, at, size), jax.lax.dynamic_slice_in_dim(y, at, size)
            return every(*carry, xs, ys)

        return jax.lax.fori_loop(0, STEPS, body, carry)

    layers = jax.vmap(fresh)(jax.random.split(key, members))
    kept = [(layers, jax.vmap(optimiser.init)(layers))]

    def work(rounds: int) -> int:
        for i in range(rounds):
            kept[0] = jax.block_until_ready(run(kept[0], jnp.asarray(i * STEPS)))
        return rounds * STEPS * members

    return work


def main() -> None:
    known: dict[tuple[str, int], Callable[[int], int]] = {}

    def answer(request: Request) -> dict[str, Any]:
        if "versions" in request:
            return {"jax": jax.__version__, "optax": optax.__version__}
        key = (request["task"], request["batch"])
        if key not in known:
            known.clear()
            known[key] = program(request)
        known[key](1)
        return {"rate": rate(known[key], request["seconds"])}

    serve(answer)


if __name__ == "__main__":
    main()
