"""What a sample of functions says: how probable each is, how much was not seen, how simple the probable ones are."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import beta
from scipy.stats import t as student
from torch import Tensor

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.core.storage.atomic import write_bytes
from novacula.diagnostics.two_samples import Interval
from novacula.functions.strings import as_strings, pack, unpack


@dataclass(frozen=True)
class Seen:
    """A function that was drawn."""

    labels: str
    count: int
    probability: Interval


@dataclass(frozen=True, eq=False)
class FunctionSample:
    """Functions that were drawn, with their counts, the most frequent first.

    Attributes:
        counts: How often each distinct function was drawn, ``(F,)``, decreasing.
        keys: The functions as packed bits, ``(F, K)``.
        n: How many functions were drawn.
        inputs: On how many inputs, N.
        classes: How many labels there are.
        undercount: By how much a count may be too low; 0 unless memory was too small for all distinct functions.
        tied: How many functions had an output that decided nothing (exactly zero, or two classes alike); None for a
            sampler that gives labels alone.
        seconds: CPU seconds that it took.
    """

    counts: np.ndarray
    keys: np.ndarray
    n: int
    inputs: int
    classes: int
    undercount: int = 0
    tied: int | None = None
    seconds: float = math.nan

    @property
    def labels(self) -> np.ndarray:
        """The functions' labels, ``(F, N)``."""
        return self.labels_of(slice(None))

    def labels_of(self, which: slice) -> np.ndarray:
        """The labels of some functions, ``(·, N)``."""
        return unpack(self.keys[which], self.inputs, bits_of(self.classes))

    @property
    def unseen_mass(self) -> Interval:
        """The probability of all functions that were not drawn, by Good and Turing.

        ``f₁/n``, of the number f₁ of functions drawn once, with ``√(f₁(1 − f₁/n) + 2 f₂)/n`` as its standard error;
        NaN where rare functions were dropped.

        References:
            The population frequencies of species and the estimation of population parameters. I. J. Good, 1953.
            Biometrika 40.
            A normal limit law for a nonparametric estimator of the coverage of a random sample. W. W. Esty, 1983.
            Annals of Statistics 11.
        """
        if self.undercount:
            return Interval(math.nan, 0.0, 1.0)
        once, twice = int((self.counts == 1).sum()), int((self.counts == 2).sum())
        value = once / self.n
        error = 1.96 * math.sqrt(once * (1 - value) + 2 * twice) / self.n
        return Interval(value, max(0.0, value - error), min(1.0, value + error))

    @property
    def entropy(self) -> float:
        """Entropy of the functions in bits, by Chao and Shen's estimator, which allows for what was not seen.

        Where much was not seen it is still too low, and grows with the number of draws: compare samples of one size.
        NaN where rare functions were dropped, or none was drawn twice.

        References:
            Nonparametric estimation of Shannon's index of diversity when there are unseen species in sample. A. Chao,
            T.-J. Shen, 2003. Environmental and Ecological Statistics 10.
        """
        coverage = 1 - self.unseen_mass.value
        if not coverage > 0:
            return math.nan
        p = coverage * self.counts / self.n
        return float(-(p * np.log2(p) / -np.expm1(self.n * np.log1p(-np.minimum(p, 1 - 1e-16)))).sum())

    @property
    def constants(self) -> Interval:
        """The probability of functions with one label for all inputs."""
        labels = self.labels
        return share(int(self.counts[(labels == labels[:, :1]).all(1)].sum()), self.n)

    def top(self, k: int) -> list[Seen]:
        """The k most frequent functions.

        Args:
            k: How many.

        Returns:
            Labels in the order of the inputs, count, and probability with its interval.
        """
        check_whole("k", k)
        texts = ["".join(map(str, row)) for row in self.labels_of(slice(0, k))]
        return [Seen(t, int(c), share(int(c), self.n)) for t, c in zip(texts, self.counts, strict=False)]

    def probability(self, labels: object) -> Interval:
        """The probability of one function, with its Clopper–Pearson interval.

        Args:
            labels: Its labels, ``(N,)``.

        Returns:
            The share of draws and the interval, which a function that was never drawn has, too.

        Raises:
            InputError: If there is no label for each input.
        """
        found = (self.keys == pack(self._wanted(labels), bits_of(self.classes))).all(1)
        return share(int(self.counts[found].sum()), self.n)

    def bits_within(self, labels: object, errors: int = 0) -> Interval:
        """Bits to name a function that differs from this one on so few inputs, by a code made of random functions.

        ``−log₂ P(f' differs from f on at most k inputs)``, f' drawn as the sample was: who sends the number of the
        first random function that is near enough needs about so many bits. At k = 0 it is ``−log₂ P(f)``; that being
        nearly right is enough makes many rare functions cheap.

        Args:
            labels: The function, ``(N,)``; it need not have been drawn.
            errors: k.

        Returns:
            Bits with their 95 % interval, infinite above where no function near enough was drawn.

        Raises:
            InputError: If there is no label for each input.

        References:
            Coding theorems for a discrete source with a fidelity criterion. C. E. Shannon, 1959.
        """
        check_whole("errors", errors, 0)
        near = (self.labels != self._wanted(labels)).sum(1) <= errors
        value, low, high = share(int(self.counts[near].sum()), self.n)
        bits = [-math.log2(p) if p > 0 else math.inf for p in (value, high, low)]
        return Interval(*bits)

    def _wanted(self, labels: object) -> np.ndarray:
        wanted = as_strings(labels)
        if isinstance(labels, str):
            wanted = wanted - ord("0")
        if wanted.shape != (1, self.inputs):
            raise InputError(f"{self.inputs} labels", f"shape {wanted.shape}", "a label for each input")
        return wanted

    def ranks(self) -> dict[str, np.ndarray]:
        """The rank plot: rank, probability, and Zipf's line ``1/(rank · log of the number of functions)``.

        Returns:
            Arrays ``(F,)``, the line with the logarithm of all ``classes^N`` functions.
        """
        rank = np.arange(1, len(self.counts) + 1)
        zipf = 1 / (rank * self.inputs * math.log(max(self.classes, 2)))
        return {"rank": rank, "probability": self.counts / self.n, "zipf": zipf}

    def save(self, path: str | Path, settings: dict[str, Any] | None = None) -> None:
        """Write the counts as an .npz, atomically.

        Args:
            path: The file.
            settings: Plain JSON values that are kept beside: of what this is a sample.
        """
        names = ("n", "inputs", "classes", "undercount", "tied", "seconds")
        about = {"sample": {k: getattr(self, k) for k in names}, "settings": settings or {}}
        buffer = io.BytesIO()
        np.savez(buffer, counts=self.counts, keys=self.keys, about=np.array(json.dumps(about)))
        write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> tuple[FunctionSample, dict[str, Any]]:
        """Read what `save` wrote.

        Args:
            path: The file.

        Returns:
            The sample and its settings.

        Raises:
            InputError: If the file holds none.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(str(stored["about"]))
                return cls(stored["counts"], stored["keys"], **about["sample"]), about["settings"]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError("counts that FunctionSample.save wrote", f"{path}: {error}", "another file") from error

    def to_dict(self) -> dict[str, Any]:
        """What was found, as plain JSON values."""
        entropy, unseen = self.entropy, self.unseen_mass
        return {
            "n": self.n,
            "inputs": self.inputs,
            "classes": self.classes,
            "distinct": len(self.counts),
            "undercount": self.undercount,
            "tied": self.tied,
            "unseen_mass": None if self.undercount else list(unseen),
            "entropy_bits": entropy if math.isfinite(entropy) else None,
            "constants": list(self.constants),
            "top": [[s.labels, s.count, *s.probability] for s in self.top(20)],
            "cpu_seconds": self.seconds,
        }


def bits_of(classes: int) -> int:
    """Bits that a label takes."""
    return max(1, (classes - 1).bit_length())


def share(k: int, n: int) -> Interval:
    """A share with Clopper and Pearson's 95 % interval."""
    low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return Interval(k / n, low, high)


def mean_interval(values: Tensor, low: float = 0.0, high: float = 1.0) -> Interval:
    """The mean of independent numbers ``(M,)`` with Student's 95 % interval, cut off at two ends."""
    mean, m = float(values.double().mean()), len(values)
    half = math.inf if m < 2 else float(student.ppf(0.975, m - 1)) * float(values.double().std()) / math.sqrt(m)
    return Interval(mean, max(low, mean - half), min(high, mean + half))
