"""lookonce: the networks of Darknet, in Python."""

__version__ = "0.1.0"
