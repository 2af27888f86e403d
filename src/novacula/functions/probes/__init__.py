"""Probes of a prior over functions: tasks with a known rule, splits that ask for it, small networks of all kinds."""

from novacula.functions.probes.networks import NETWORKS, network
from novacula.functions.probes.tasks import SPLITS, TASKS, Probe, probe, split

__all__ = ["NETWORKS", "SPLITS", "TASKS", "Probe", "network", "probe", "split"]
