"""To learn: a Model as a torch module, and back. Needs the extra `train`."""

from lookonce.nn.network import TorchNetwork

__all__ = ["TorchNetwork"]
