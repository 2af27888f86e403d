"""The peer of `benchmarks.leapfrog`: BlackJAX's HMC and NUTS, compiled by JAX for one thread; chains by ``vmap``.

Started by `benchmarks.leapfrog` in an environment with JAX and BlackJAX; needs no torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import blackjax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gold_task import SIZES, digits
from benchmarks.turns import Request, rate, serve


def log_density() -> Callable[[dict[str, jax.Array]], jax.Array]:
    x, y, _, _ = digits()
    x, y = jnp.asarray(x), jnp.asarray(y)

    def value(w: dict[str, jax.Array]) -> jax.Array:
        h = jax.nn.relu(x @ w["w1"].T + w["b1"])
        log_p = jax.nn.log_softmax(h @ w["w2"].T + w["b2"])
        fit = jnp.take_along_axis(log_p, y[:, None], 1).sum()
        return fit - 0.5 * sum(jnp.sum(v**2) for v in w.values())

    return value


def weights(q: np.ndarray) -> dict[str, jax.Array]:
    d, h, c = SIZES
    shapes = {"w1": (h, d), "b1": (h,), "w2": (c, h), "b2": (c,)}
    ends = np.cumsum([int(np.prod(s)) for s in shapes.values()])[:-1]
    parts = np.split(q, ends, axis=-1)
    return {k: jnp.asarray(p.reshape(*q.shape[:-1], *s)) for (k, s), p in zip(shapes.items(), parts, strict=True)}


def main() -> None:
    start = np.load(sys.argv[1])
    value = log_density()
    known: dict[tuple[str, int], Callable[[int], int]] = {}

    def program(request: Request) -> Callable[[int], int]:
        unit = jnp.ones(start.shape[1])
        if request["sampler"] == "hmc":
            sampler = blackjax.hmc(value, request["step"], unit, request["length"])
        else:
            sampler = blackjax.nuts(value, request["step"], unit, max_num_doublings=request["depth"])
        chains = request["chains"]

        def transition(key: jax.Array, state: Any) -> tuple[jax.Array, jax.Array]:
            after, info = sampler.step(key, state)
            # The density is asked for too, or the compiler would leave out the trajectories.
            return jnp.asarray(info.num_integration_steps), after.logdensity

        # Every transition starts at the same place, as ours do.
        one = transition if chains == 1 else jax.vmap(transition)

        @jax.jit
        def run(keys: jax.Array, state: Any) -> tuple[jax.Array, jax.Array]:
            steps, densities = jax.lax.map(lambda k: one(k, state), keys)
            return steps.sum(), densities.sum()

        w = weights(start[0] if chains == 1 else start[:chains])
        state = sampler.init(w) if chains == 1 else jax.vmap(sampler.init)(w)
        done = [0]

        def work(rounds: int) -> int:
            # Whole programs of eight transitions, so that nothing is compiled while the clock runs.
            total = 0
            for _ in range(rounds):
                done[0] += 1
                keys = jax.random.split(jax.random.key(done[0]), 8 * chains)
                steps, density = run(keys if chains == 1 else keys.reshape(8, chains), state)
                assert np.isfinite(float(density))
                total += int(steps)
            return total

        return work

    def answer(request: Request) -> dict[str, Any]:
        if "versions" in request:
            return {"jax": jax.__version__, "blackjax": blackjax.__version__}
        key = (request["sampler"], request["chains"])
        if key not in known:
            known[key] = program(request)
        known[key](1)
        return {"rate": rate(known[key], request["seconds"])}

    serve(answer)


if __name__ == "__main__":
    main()
