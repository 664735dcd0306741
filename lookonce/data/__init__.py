"""Pictures and truths: datasets in the forms that people keep them. Knows no network."""

from lookonce.data.dataset import Dataset, Item, Problem
from lookonce.data.opening import open_dataset
from lookonce.data.writing import write_dataset

__all__ = ["Dataset", "Item", "Problem", "open_dataset", "write_dataset"]
