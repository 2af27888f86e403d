"""The reference: NumPyro's NUTS on the digits net, four chains. Run in an environment with JAX and NumPyro.

``python -m benchmarks.peers.numpyro_gold --out benchmarks/results/gold/numpyro`` writes ``numpyro.npz`` (mean
probabilities of the test images by chain) and ``numpyro.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import split_gelman_rubin
from numpyro.infer import MCMC, NUTS

from benchmarks.gold_task import SIZES, compare, digits, scores


def forward(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ w["w1"] + w["b1"]) @ w["w2"] + w["b2"]


def model(x: jax.Array, y: jax.Array) -> None:
    d, h, c = SIZES
    shapes = {"w1": (d, h), "b1": (h,), "w2": (h, c), "b2": (c,)}
    w = {k: numpyro.sample(k, dist.Normal(0, 1).expand(s).to_event(len(s))) for k, s in shapes.items()}
    numpyro.sample("y", dist.Categorical(logits=forward(w, x)), obs=y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    x, y, x_test, y_test = digits()
    began = time.process_time()
    mcmc = MCMC(
        NUTS(model),
        num_warmup=options.warmup,
        num_samples=options.draws,
        num_chains=options.chains,
        chain_method="sequential",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(options.seed), jnp.asarray(x), jnp.asarray(y), extra_fields=("num_steps", "diverging"))
    seconds = time.process_time() - began
    draws = mcmc.get_samples(group_by_chain=True)
    predict = jax.jit(lambda w: jax.nn.softmax(forward(w, jnp.asarray(x_test))))
    # (chains, draws, N, C) would be large; thin by 5 for R-hat, keep all for the means.
    flat = {k: v.reshape(-1, *v.shape[2:]) for k, v in draws.items()}
    size = options.chains * options.draws
    probabilities = np.stack([np.asarray(predict({k: v[i] for k, v in flat.items()})) for i in range(size)])
    by_chain = probabilities.reshape(options.chains, options.draws, *probabilities.shape[1:])
    means = by_chain.mean(1)
    rhat = split_gelman_rubin(by_chain[:, ::5].astype(np.float64))
    pairs = [compare(means[i], means[j]) for i in range(options.chains) for j in range(i)]
    extra = mcmc.get_extra_fields()
    report = {
        "command": f"python -m benchmarks.peers.numpyro_gold --chains {options.chains} --warmup {options.warmup} "
        f"--draws {options.draws} --seed {options.seed} --out {options.out}",
        "versions": {"jax": jax.__version__, "numpyro": numpyro.__version__},
        "cpu_seconds": seconds,
        "leapfrogs_after_warmup": int(np.sum(extra["num_steps"])),
        "divergences": int(np.sum(extra["diverging"])),
        "rhat_predictions_median": float(np.nanmedian(rhat)),
        "rhat_predictions_max": float(np.nanmax(rhat)),
        "between_chains": pairs,
        "chains": [scores(m, y_test) for m in means],
        "mean": scores(means.mean(0), y_test),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out.with_suffix(".npz"), probabilities=means.astype(np.float32), labels=y_test)
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
