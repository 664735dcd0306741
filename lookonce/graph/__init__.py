"""A network as an ONNX graph, written from cfg and weights without any training framework."""

from lookonce.graph.build import Graph, build, build_segment

__all__ = ["Graph", "build", "build_segment"]
