"""The zoo: networks declared here, what their classes are called, and where published weights for them lie."""

from lookonce.zoo.registry import (
    Published,
    bundled_files,
    cache_folder,
    cfg_path,
    class_names,
    name_lists,
    networks,
    published,
    published_files,
    pulled_weights,
)

__all__ = [
    "Published",
    "bundled_files",
    "cache_folder",
    "cfg_path",
    "class_names",
    "name_lists",
    "networks",
    "published",
    "published_files",
    "pulled_weights",
]
