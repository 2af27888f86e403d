"""R-hat, effective sample sizes and Monte-Carlo errors, against a naive implementation, arviz and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm, rankdata
from torch import Tensor

from novacula.core.errors import InputError
from novacula.core.rng import generator
from novacula.diagnostics import ess, mcse, rhat

KINDS = ("bulk", "tail", "mean", "sd")


def chains(m: int, k: int, rho: float, seed: int) -> np.ndarray:
    """AR(1) chains from an integer generator that any language repeats exactly."""
    state, out = seed, np.empty((m, k))
    for i in range(m):
        x = 0.0
        for t in range(-20, k):
            u = 0.0
            for _ in range(4):
                state = (1103515245 * state + 12345) % 2**31
                u += state / 2**31 - 0.5
            x = rho * x + u
            if t >= 0:
                out[i, t] = x
    return out


CASES = {
    "independent": chains(4, 100, 0.0, 1),
    "sticky, odd": chains(3, 101, 0.8, 2) ** 3,
    "alternating": chains(2, 64, -0.7, 3),
    "one chain": chains(1, 50, 0.3, 4),
    "apart": chains(4, 80, 0.5, 5) + np.array([[0.0], [0.0], [0.0], [1.5]]),
    "wide": chains(4, 80, 0.5, 6) * np.array([[1.0], [1.0], [1.0], [4.0]]),
    "ties": np.round(chains(3, 90, 0.6, 7) * 2),
    "few": chains(2, 5, 0.0, 8),
}

# arviz 0.23.4 (numpy 2.4.6): rhat(method="rank"); ess of the four kinds; mcse of mean and sd, of the CASES above. arviz
# has no R-hat for one chain, and for halves of two draws it does not look at the autocorrelation at all; so none here.
ARVIZ = {
    "independent": (
        (1.0032899663707167, 372.5837971918429, 266.7258272571747, 369.4370903301604, 441.3664883978578),
        (0.03173719395400926, 0.017874534967130443),
    ),
    "sticky, odd": (
        (1.08696756089662, 40.215888222121556, 137.19456088334522, 67.87243915376663, 170.76884663062472),
        (0.32483419208726644, 0.477415965103903),
    ),
    "alternating": (
        (1.028366309493471, 269.72287611492715, 76.65998154831868, 269.72287611492715, 60.173393701346036),
        (0.05279886437096536, 0.07956507291997952),
    ),
    "one chain": (
        (math.nan, 22.687156476036012, 62.53669994128008, 20.526382962928366, 47.9968791715175),
        (0.1085854509688841, 0.037608500297259546),
    ),
    "apart": (
        (1.4272592769662797, 9.234254145106016, 78.96725363933231, 8.633420306280435, 44.90889472577773),
        (0.30388596513599947, 0.08343371293343473),
    ),
    "wide": (
        (1.1668081377165904, 84.65089226892347, 29.137119594529665, 70.8089866394946, 18.05438403358059),
        (0.13574431523430688, 0.29541802138200285),
    ),
    "ties": (
        (1.0268784183224495, 72.84116147795623, 105.32136261954449, 72.62070927248485, 118.95886828665965),
        (0.18137670105620637, 0.09789015963274722),
    ),
}


def halves(x: np.ndarray) -> np.ndarray:
    half = x.shape[1] // 2
    return np.array([part for row in x for part in (row[:half], row[len(row) - half :])])


def scores(x: np.ndarray) -> np.ndarray:
    return norm.ppf((rankdata(x, method="average").reshape(x.shape) - 3 / 8) / (x.size + 1 / 4))


def naive_rhat(x: np.ndarray) -> float:
    def plain(z: np.ndarray) -> float:
        n = z.shape[1]
        within = sum(sum((v - row.mean()) ** 2 for v in row) / (n - 1) for row in z) / len(z)
        between = n * sum((row.mean() - z.mean()) ** 2 for row in z) / (len(z) - 1)
        return math.sqrt(((n - 1) / n * within + between / n) / within)

    x = halves(x)
    return max(plain(scores(x)), plain(scores(np.abs(x - np.median(x)))))


def naive_ess(x: np.ndarray) -> float:
    """Of chains as they are: autocorrelations one by one, Geyer's sequence by a loop over pairs."""
    m, n = x.shape
    covariance = [
        np.mean([sum((row[i] - row.mean()) * (row[i + t] - row.mean()) for i in range(n - t)) / n for row in x])
        for t in range(n)
    ]
    within = covariance[0] * n / (n - 1)
    total = within * (n - 1) / n + (np.var([row.mean() for row in x], ddof=1) if m > 1 else 0)
    rho = [1.0] + [1 - (within - c) / total for c in covariance[1:]]
    tau, least, pair = -1.0, math.inf, 0
    while 2 * pair + 1 < n and pair < max(1, (n - 3) // 2):
        value = rho[2 * pair] + rho[2 * pair + 1]
        if value <= 0:
            break
        least = min(least, value)
        tau += 2 * least
        pair += 1
    if 2 * pair < n and rho[2 * pair] > 0:
        tau += rho[2 * pair]
    return m * n / max(tau, 1 / math.log10(m * n))


def naive(x: np.ndarray) -> list[float]:
    events = [naive_ess(halves((x <= np.quantile(x, q)) * 1.0)) for q in (0.05, 0.95) if (x > np.quantile(x, q)).any()]
    mean, sd = naive_ess(halves(x)), naive_ess(halves((x - x.mean()) ** 2))
    m2, m4 = np.mean((x - x.mean()) ** 2), np.mean((x - x.mean()) ** 4)
    errors = [x.std(ddof=1) / math.sqrt(mean), math.sqrt((m4 - m2**2) / sd) / (2 * math.sqrt(m2))]
    return [naive_rhat(x), naive_ess(scores(halves(x))), min(events), mean, sd, *errors]


def ours(x: Tensor) -> Tensor:
    return torch.stack([rhat(x), *(ess(x, kind) for kind in KINDS), mcse(x, "mean"), mcse(x, "sd")])


@pytest.mark.parametrize("name", CASES)
def test_a_naive_implementation_agrees(name: str) -> None:
    expected = torch.tensor(naive(CASES[name]), dtype=torch.float64)
    torch.testing.assert_close(ours(torch.tensor(CASES[name])), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ARVIZ)
def test_arviz_agrees(name: str) -> None:
    expected = torch.tensor([*ARVIZ[name][0], *ARVIZ[name][1]], dtype=torch.float64)
    said = ours(torch.tensor(CASES[name]))
    known = ~expected.isnan()
    torch.testing.assert_close(said[known], expected[known], rtol=1e-9, atol=0)


def test_each_column_is_judged_alone() -> None:
    """Trailing axes of sizes 3 and 2, more columns than a chunk holds, ties in one of them, float32 in, float64 out."""
    columns = torch.stack([torch.tensor(chains(2, 40, r, 9 + i)) for i, r in enumerate([0, 0.2, 0.4, 0.6, 0.8, -0.5])])
    columns[3] = columns[3].round()
    x = columns.permute(1, 2, 0).reshape(2, 40, 3, 2)
    together = ours(x)
    assert together.shape == (7, 3, 2)
    for i in range(3):
        for j in range(2):
            torch.testing.assert_close(together[:, i, j], ours(x[:, :, i, j]), rtol=1e-12, atol=0)
    many = x.reshape(2, 40, 6).float().repeat(1, 1, 1200)
    assert rhat(many).dtype == torch.float64
    torch.testing.assert_close(rhat(many), rhat(x.float()).flatten().repeat(1200), rtol=1e-12, atol=0)
    torch.testing.assert_close(ess(many, "tail"), ess(x.float(), "tail").flatten().repeat(1200), rtol=1e-12, atol=0)


def test_autoregression_has_the_size_of_its_closed_form() -> None:
    """ESS/S = (1 − ρ)/(1 + ρ) for an AR(1).

    The mean of 200 replicates lies within 5 of its standard errors (false-alarm rate below 1e-6 for each of six) plus
    2 % for the bias of cutting the sequence.
    """
    for rho in (0.7, 0.3, -0.4):
        noise = torch.randn(4, 1100, 200, generator=generator(2, str(rho)), dtype=torch.float64)
        x = torch.zeros_like(noise)
        for t in range(1, 1100):
            x[:, t] = rho * x[:, t - 1] + noise[:, t]
        for kind in ("bulk", "mean"):
            ratio = ess(x[:, 100:], kind) / 4000 / ((1 - rho) / (1 + rho))
            assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / math.sqrt(200) + 0.02


def test_errors_cover_what_they_are_errors_of() -> None:
    """400 replicates of an AR(1) of unit variance (ρ = .5): z of mean and sd has variance 1.

    The variance of 400 z has a standard error of .07; .7 and 1.35 are 4 and 5 of them away (false alarms: below 1e-4).
    """
    noise = torch.randn(2, 600, 400, generator=generator(4), dtype=torch.float64)
    x = noise.clone()
    for t in range(1, 600):
        x[:, t] = 0.5 * x[:, t - 1] + math.sqrt(0.75) * noise[:, t]
    z = {"mean": x.mean((0, 1)) / mcse(x, "mean"), "sd": (x.flatten(0, 1).std(0) - 1) / mcse(x, "sd")}
    for value in z.values():
        assert 0.7 < float(value.square().mean()) < 1.35


def test_monotone_maps_change_nothing() -> None:
    x = torch.tensor(CASES["sticky, odd"])
    for kind in ("bulk", "tail"):
        torch.testing.assert_close(ess(x.exp(), kind), ess(x, kind), rtol=1e-12, atol=0)


def test_folding_sees_chains_that_differ_in_spread_alone() -> None:
    """Four chains of 500, one with three times the sd: their means agree, their spread does not."""
    x = torch.randn(4, 500, generator=generator(5), dtype=torch.float64)
    x[3] *= 3
    ranked = scores(halves(x.numpy()))
    assert np.var(ranked.mean(1), ddof=1) / np.var(ranked, axis=1, ddof=1).mean() < 0.01
    assert float(rhat(x)) > 1.05
    assert naive_rhat(x.numpy()) == pytest.approx(float(rhat(x)), rel=1e-9)


def test_what_cannot_be_said_is_nan_and_what_stands_still_is_infinite() -> None:
    x = torch.randn(3, 20, 5, generator=generator(6), dtype=torch.float64)
    x[:, :, 1] = 0.1
    x[1, 7, 2] = math.inf
    x[:, :, 3] = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)[:, None]
    x[0, 3, 4] = math.nan
    for value in ours(x):
        assert value[[1, 2, 4]].isnan().all()
        assert value[0].isfinite()
    assert float(rhat(x)[3]) == math.inf
    assert float(ess(x, "mean")[3]) < 6  # as many as there are half chains
    rare = torch.zeros(2, 100, dtype=torch.float64)
    rare[0, 50] = 1  # both quantiles are 0: the one event "at most 0" is left
    assert ess(rare, "tail").isfinite()
    assert ess(torch.arange(200).reshape(2, 100) % 2, "tail").isfinite()


def test_too_few_draws_and_unknown_kinds_are_refused() -> None:
    for bad in (torch.zeros(4, 3, 2), torch.zeros(7), torch.zeros(0, 8)):
        for function in (rhat, ess, mcse):
            with pytest.raises(InputError, match="at least 4 draws"):
                function(bad)
    with pytest.raises(InputError, match="bulk"):
        ess(torch.zeros(2, 8), "median")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mean, sd"):
        mcse(torch.zeros(2, 8), "median")  # type: ignore[arg-type]
    assert rhat(torch.zeros(2, 8, 0)).shape == (0,)
