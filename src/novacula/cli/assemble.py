"""From options to data and a target."""

from __future__ import annotations

from novacula.cli.options import Options
from novacula.core.errors import InputError
from novacula.data.new import NewData, load_new
from novacula.data.raw import Like
from novacula.runs.setup import Assembled, Setup
from novacula.runs.setup import assemble as assemble_setup


def assemble(options: Options) -> Assembled:
    """Load the data, set test data aside, and put the target together."""
    return assemble_setup(setup_of(options))


def strange_of(path: str, assembled: Assembled) -> NewData:
    """Load inputs of another kind, which must have the same shape or columns."""
    train = assembled.train
    if assembled.test is None:
        raise InputError("test data, from which --ood are to be told", "none", "leave out --ood, or set some aside")
    like = Like(train.x_shape, train.task, train.classes, train.columns, assembled.targets, dtype=train.x.dtype)
    return load_new(path, like, labels=False)


def setup_of(options: Options) -> Setup:
    """What the options say about data and model."""
    return Setup.of(vars(options))
