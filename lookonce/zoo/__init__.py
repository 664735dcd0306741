"""The zoo: networks declared here, what their classes are called, and where published weights for them lie."""

from lookonce.zoo.registry import (
    DEFAULT,
    Published,
    bundled_files,
    cache_folder,
    cfg_path,
    class_names,
    cut_of,
    name_lists,
    networks,
    published,
    published_files,
    pulled_weights,
    shipped_model,
)

__all__ = [
    "DEFAULT",
    "Published",
    "bundled_files",
    "cache_folder",
    "cfg_path",
    "class_names",
    "cut_of",
    "name_lists",
    "networks",
    "published",
    "published_files",
    "pulled_weights",
    "shipped_model",
]
