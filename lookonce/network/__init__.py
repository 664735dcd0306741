"""What a cfg declares: options, layers joined by shapes, heads. No weights."""

from lookonce.network.network import PICTURES, Network, Node, Resize
from lookonce.network.options import NetOptions

__all__ = ["PICTURES", "NetOptions", "Network", "Node", "Resize"]
