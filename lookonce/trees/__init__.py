"""Trees of classes: built from WordNet and other sources, checked, shown, asked, merged, and joined to datasets."""

from lookonce.trees.building import Built, build, planted
from lookonce.trees.checking import Checked, Fault, check
from lookonce.trees.choices import read_choices, write_choices
from lookonce.trees.concepts import Concepts
from lookonce.trees.joining import Joined, Lexicon, complaints, join, names_of
from lookonce.trees.merging import Merged, merge
from lookonce.trees.page import write_page
from lookonce.trees.showing import Entry, as_json, described, entry, find, show
from lookonce.trees.stored import map_names, read_tree, write_map, write_tree
from lookonce.trees.tables import read_openimages, read_pairs
from lookonce.trees.wordnet import read_wordnet

__all__ = [
    "Built",
    "Checked",
    "Concepts",
    "Entry",
    "Fault",
    "Joined",
    "Lexicon",
    "Merged",
    "as_json",
    "build",
    "check",
    "complaints",
    "described",
    "entry",
    "find",
    "join",
    "map_names",
    "merge",
    "names_of",
    "planted",
    "read_choices",
    "read_openimages",
    "read_pairs",
    "read_tree",
    "read_wordnet",
    "show",
    "write_choices",
    "write_map",
    "write_page",
    "write_tree",
]
