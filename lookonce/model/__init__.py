"""A model: a network with its weights and what belongs to it, and the ways to open and to keep one."""

from lookonce.model.model import Model, Thresholds
from lookonce.model.opening import open_model, open_network, weights_lengths

__all__ = ["Model", "Thresholds", "open_model", "open_network", "weights_lengths"]
