"""Layers of single bits: packed weights and pictures, products by exclusive or and population count."""

from lookonce.binary.kernel import BinaryConvolution, Choice, choose, matrix_product, max_pool, pack, window_sums
from lookonce.binary.plan import Plan, plan
from lookonce.binary.prepare import prepare
from lookonce.binary.wishes import has_single_bits

__all__ = [
    "BinaryConvolution",
    "Choice",
    "Plan",
    "choose",
    "has_single_bits",
    "matrix_product",
    "max_pool",
    "pack",
    "plan",
    "prepare",
    "window_sums",
]
