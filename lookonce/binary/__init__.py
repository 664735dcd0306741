"""Layers of single bits: packed weights and pictures, products by exclusive or and population count."""

from lookonce.binary.kernel import BinaryConvolution, Choice, choose, matrix_product, max_pool, pack, window_sums
from lookonce.binary.prepare import prepare

__all__ = [
    "BinaryConvolution",
    "Choice",
    "choose",
    "matrix_product",
    "max_pool",
    "pack",
    "prepare",
    "window_sums",
]
