"""Methods by name, with settings that suit a target whose prior, noise and invariances have been learned.

| name | method | steps by default |
| --- | --- | --- |
| ``ensemble`` | `Ensemble` of 5 networks | as many as the run itself took |
| ``swag``, ``multi-swag`` | `SWAG`, and an ensemble of 5 | the same |
| ``dropout`` | `Dropout`, for networks that have such layers | the same |
| ``mean-field``, ``ivon`` | `MeanField`, `IVON` | twice as many, and 4,000 or more |
| ``sgld``, ``csgld``, ``sghmc`` | `SGLD`, the same with cycles, `SGHMC`; 4 chains | four times, and 6,000 or more |
| ``hmc``, ``nuts`` | `HMC`, `NUTS`; 4 chains | 1,000, each on all data |
| ``smc`` | `SMC`; 4 populations | at most 200, each on all data |

``"sgld:lr=1e-3,keep=50"`` changes a method's own settings. Minibatches are those of the run, and of at least 100
examples for SGLD and SGHMC, whose draws spread the more the noisier their gradients are.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from novacula.core.checks.numbers import check_whole
from novacula.core.errors import InputError
from novacula.runs.catalogue.row import Made, Table, loaded

if TYPE_CHECKING:
    from novacula.core.params import Params
    from novacula.inference.method import Method

_LEAST = 4_000
_LEAST_SAMPLED = 6_000
_BATCH = 100
_KINDS = {bool: "True or False", int: "a whole number", float: "a number"}
_DRAWN = 2**29  # bytes of a sampler's draws


@dataclass(frozen=True)
class Trained:
    """How the weights were trained, on which a method's defaults depend."""

    lr: float = 4e-3  # the learning rate that the weights were trained with
    steps: int = 1_000  # the steps that they were trained in
    size: int = 4  # bytes of one draw of the weights

    @classmethod
    def of(cls, params: Params, lr: float, steps: int) -> Trained:
        """Of weights that were trained."""
        return cls(lr, steps, sum(w.nbytes for w in params.values()))

    def keep(self, chains: int, most: int) -> int:
        """How many draws of each chain fit."""
        return max(10, min(most, _DRAWN // (self.size * chains)))


def _as_trained(s: Trained) -> int:
    return s.steps


def _twice(s: Trained) -> int:
    return max(2 * s.steps, _LEAST)


def _four_times(s: Trained) -> int:
    return max(4 * s.steps, _LEAST_SAMPLED)


def _trained(s: Trained, m: int) -> dict[str, Any]:
    return {"lr": s.lr}


def _averaged(s: Trained, m: int) -> dict[str, Any]:
    return {"lr": s.lr, "swa_lr": s.lr}


def _as_they_are(s: Trained, m: int) -> dict[str, Any]:
    return {}


def _kept(most: int, **others: Any) -> Callable[[Trained, int], dict[str, Any]]:
    return lambda s, m: {**others, "keep": s.keep(m, most)}


@dataclass(frozen=True)
class Words:
    """How the report speaks of a method."""

    name: str  # its name
    noun: Literal["run", "chain", "population", "network"] = "run"  # what one of several runs side by side is
    what: str = ""  # what its predictions average over; empty for methods of which that is not known


@dataclass(frozen=True)
class MethodRow:
    """A method by its name."""

    name: str  # what people write
    make: Made  # its class
    report: Words  # how the report speaks of it
    defaults: Callable[[Trained, int], Mapping[str, Any]] = _as_they_are
    steps: Callable[[Trained], int] = _as_trained  # its steps, for a `Trained`
    chains: int = 1  # chains
    batch: int = 1  # the fewest examples a step
    members: int = 0  # how many of it make an ensemble; 0 for it alone
    help: str | None = ""  # A phrase for the help; None for a method that has no name on the command line
    unpack: Made | None = None  # makes a posterior that packs itself as a kind of its own, of `Packed` and `Origin`

    def method(self, trained: Trained, chains: int) -> Method:
        """The method."""
        made = loaded(self.make)(**self.defaults(trained, chains))
        return loaded(f"{_INFERENCE}Ensemble")(made, members=self.members) if self.members else made


_INFERENCE = "novacula.inference:"
CHOICES = ("auto", "point", "laplace")
"""What `learn` itself finds: the better of the two by the training data, the point estimate, a Laplace posterior."""
METHODS = Table(
    "posterior",
    MethodRow,
    (
        MethodRow(
            "ensemble",
            f"{_INFERENCE}MAP",
            Words("Ensemble", "network", "networks that were trained apart, from different starts"),
            _trained,
            members=5,
        ),
        MethodRow(
            "swag", f"{_INFERENCE}SWAG", Words("SWAG", "run", "a Gaussian fitted to the path of training"), _averaged
        ),
        MethodRow(
            "multi-swag",
            f"{_INFERENCE}SWAG",
            Words("MultiSWAG", "network", "a Gaussian around each of several networks, fitted to its training path"),
            _averaged,
            members=5,
        ),
        MethodRow(
            "dropout",
            f"{_INFERENCE}Dropout",
            Words("Dropout", "run", "one network with units left out at random"),
            _trained,
        ),
        MethodRow(
            "mean-field",
            f"{_INFERENCE}MeanField",
            Words("MeanField", "run", "a Gaussian, independent for each weight, fitted to the posterior"),
            steps=_twice,
        ),
        MethodRow(
            "ivon",
            f"{_INFERENCE}IVON",
            Words("IVON", "run", "a Gaussian, independent for each weight, learned by natural gradients"),
            steps=_twice,
        ),
        MethodRow(
            "sgld",
            f"{_INFERENCE}SGLD",
            Words("SGLD", "chain", "gradient steps on minibatches, with noise added"),
            _kept(100),
            _four_times,
            4,
            _BATCH,
        ),
        MethodRow(
            "csgld",
            f"{_INFERENCE}SGLD",
            Words("cyclical SGLD", "chain", "gradient steps on minibatches with noise added, restarted in cycles"),
            _kept(100, cycles=5),
            _four_times,
            4,
            _BATCH,
        ),
        MethodRow(
            "sghmc",
            f"{_INFERENCE}SGHMC",
            Words("SGHMC", "chain", "gradient steps with momentum on minibatches, with noise added"),
            _kept(100),
            _four_times,
            4,
            _BATCH,
        ),
        MethodRow(
            "hmc",
            f"{_INFERENCE}HMC",
            Words("HMC", "chain", "simulated motion over the posterior of all the data"),
            _kept(500),
            lambda s: 1_000,
            4,
        ),
        MethodRow(
            "nuts",
            f"{_INFERENCE}NUTS",
            Words("NUTS", "chain", "simulated motion over the posterior of all the data, until it turns back"),
            _kept(500),
            lambda s: 1_000,
            4,
        ),
        MethodRow(
            "smc",
            f"{_INFERENCE}SMC",
            Words("SMC", "population", "weights that were moved from the prior to the posterior by degrees"),
            lambda s, m: {"particles": s.keep(m, 256)},
            lambda s: 200,
            4,
        ),
    ),
    CHOICES,
)


@dataclass(frozen=True)
class Wanted:
    """A posterior that is asked for by name."""

    text: str  # as it was written
    name: str  # the method's name, or one of `CHOICES`
    changes: Mapping[str, Any]  # settings other than the defaults

    @property
    def is_choice(self) -> bool:
        """Whether `learn` itself finds it."""
        return self.name in CHOICES


def read_method(text: str) -> Wanted:
    """Read a method's name and settings, and find out what is wrong with them before any work."""
    name, _, rest = text.partition(":")
    known = [*METHODS.words, *METHODS]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise InputError(f"a posterior among {', '.join(known)}", repr(name), close[0] if close else "auto")
    found: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key:
            raise InputError(f"settings of {name} as SETTING=VALUE", repr(item), f"{name}:SETTING=VALUE")
        try:
            found[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    if found and name in CHOICES:
        raise InputError(f"no settings with {name}", f"{rest!r}", f"{name} alone")
    if name in METHODS:
        changed(METHODS[name].method(Trained(), 1), found, name)
    return Wanted(text, name, found)


def method_of(wanted: Wanted, trained: Trained, chains: int | None = None) -> tuple[Method, int, int, int]:
    """A method that is asked for by name, with how it runs."""
    entry = METHODS[wanted.name]
    chains = entry.chains if chains is None else chains
    check_whole("chains", chains)
    method = changed(entry.method(trained, chains), wanted.changes, wanted.name)
    return method, entry.steps(trained), chains, entry.batch


def changed(method: Any, changes: Mapping[str, Any], name: str) -> Any:
    """A method with other settings; those that an ensemble does not have are its method's."""
    own = _examples(method)
    inner = _examples(within) if (within := _within(method)) else {}
    for key, value in changes.items():
        if key not in {**own, **inner} or key == "method":
            known = [k for k in {**own, **inner} if k != "method"]
            close = difflib.get_close_matches(key, known, n=1)
            raise InputError(
                f"settings of {name}: {', '.join(known)}", repr(key), close[0] if close else "leave it out"
            )
        before = own.get(key, inner.get(key))
        if not _alike(before, value):
            kind = _KINDS.get(type(before), "text")
            raise InputError(f"{key} of {name} to be {kind}", repr(value), f"{name}:{key}={before or '…'}")
    mine = {k: _cast(own[k], v) for k, v in changes.items() if k in own}
    others = {k: _cast(inner[k], v) for k, v in changes.items() if k not in own}
    if others:
        mine["method"] = dataclasses.replace(method.method, **others)
    return dataclasses.replace(method, **mine) if mine else method


def settings_of_name(name: str) -> tuple[str, ...]:
    """The settings that can be changed with a name."""
    method: Any = METHODS[name].method(Trained(), 1)
    inner = _fields(within) if (within := _within(method)) else {}
    return tuple(k for k in {**_fields(method), **inner} if k != "method")


def settings_of(method: Any) -> dict[str, Any]:
    """A method's settings as plain values."""
    return {
        k: {"name": type(v).__name__, **settings_of(v)} if dataclasses.is_dataclass(v) else v
        for k, v in _fields(method).items()
    }


def spoken(name: str, method: Any) -> dict[str, Any]:
    """What a run says of a method that another package made, so that the report needs not have it."""
    row = METHODS.get(name.partition(":")[0])
    row = row or next((r for r in METHODS.added.values() if loaded(r.make) is type(method)), None)
    return {"words": dataclasses.asdict(row.report)} if row and METHODS.origin(row.name) else {}


def _within(method: Any) -> Any:
    # The method that a method is made of, as an ensemble is.
    found = _fields(method).get("method")
    return found if dataclasses.is_dataclass(found) else None


def _fields(method: Any) -> dict[str, Any]:
    return {f.name: getattr(method, f.name) for f in dataclasses.fields(method) if f.init}


def _examples(method: Any) -> dict[str, Any]:
    # The settings, with a zero of the right kind for those that are left to the method.
    hints = get_type_hints(type(method))
    kinds = {k: next((t for t in get_args(hints[k]) if t is not type(None)), str) for k in _fields(method)}
    return {k: kinds[k]() if v is None else v for k, v in _fields(method).items()}


def _alike(before: Any, value: Any) -> bool:
    if isinstance(before, bool) or isinstance(value, bool):
        return isinstance(before, bool) and isinstance(value, bool)
    if isinstance(before, int):
        return isinstance(value, int)
    if isinstance(before, float):
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, type(before))


def _cast(before: Any, value: Any) -> Any:
    return float(value) if isinstance(before, float) else value


def maker_of(found: Mapping[str, Any] | None) -> Callable[..., Any] | None:
    """What makes a posterior of a kind of its own again, by the record of a run."""
    name = str((found or {}).get("name") or "").partition(":")[0]
    row = METHODS.get(name)
    return None if row is None or row.unpack is None else loaded(row.unpack)
