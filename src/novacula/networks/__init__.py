"""Built-in networks, and networks from a person's own file. All are plain `torch.nn.Module`s."""

from novacula.networks.cnn import cnn
from novacula.networks.make import BUILT_IN, make, seeded
from novacula.networks.mlp import Activation, linear, mlp
from novacula.networks.resnet import resnet
from novacula.networks.table import Hinges, table

__all__ = ["BUILT_IN", "Activation", "Hinges", "cnn", "linear", "make", "mlp", "resnet", "seeded", "table"]
