"""A network as a table: each layer's shape, parameters and operations."""

from __future__ import annotations

from collections.abc import Iterator

from lookonce.darknet.weights import expected_bytes
from lookonce.layers.convolution import Connected, Convolution, Local
from lookonce.layers.junctions import Route, Sam, ScaleChannels, Shortcut
from lookonce.layers.layer import Junction, Layer
from lookonce.layers.pooling import MaxPool
from lookonce.layers.wiring import Reorg, Upsample
from lookonce.network import Network

RUNNING = ("mean", "variance")              # kept in the file, but no parameters: they are not learned


def lines(network: Network) -> Iterator[str]:
    """One line a layer, then the sums: learned parameters, operations, bytes of the weights file."""
    rows = [("layer", "type", "", "input", "output", "parameters", "operations")]
    total = 0
    for node in network.nodes:
        learned = sum(parameter.size for parameter in node.parameters if parameter.name not in RUNNING)
        total += learned
        rows.append(
            (
                str(node.index),
                node.layer.section,
                _about(node.layer),
                str(node.given[0]),
                str(node.shape),
                f"{learned:,}" if learned else "",
                f"{node.operations:,}" if node.operations else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:5], widths[:5], strict=True)]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[5:], widths[5:], strict=True)]
        yield "  ".join(cells).rstrip()
    yield (
        f"{len(network.nodes)} layers, {total:,} parameters, {network.operations / 1e9:.2f} billion operations, "
        f"{expected_bytes(network.entries()):,} bytes of weights; {network.kind}, {network.resize}"
    )


def _about(layer: Layer | Junction) -> str:
    """The options that tell one layer of a kind from another."""
    match layer:
        case Convolution():
            stride = f"/{layer.stride[0]}" if layer.stride[0] == layer.stride[1] else f"/{layer.stride}"
            words = [f"{layer.filters} x {layer.size}x{layer.size}{stride}", layer.activation]
            words += [f"groups {layer.groups}"] if layer.groups > 1 else []
            words += [f"dilation {layer.dilation}"] if layer.dilation > 1 else []
            words += ["bn"] if layer.batch_normalize else []
            words += [word for word in ("binary", "xnor") if getattr(layer, word)]
            return " ".join(words)
        case Local():
            return f"{layer.filters} x {layer.size}x{layer.size}/{layer.stride} {layer.activation}"
        case Connected():
            return f"{layer.output} {layer.activation}" + (" bn" if layer.batch_normalize else "")
        case MaxPool():
            return f"{layer.size}x{layer.size}/{layer.stride[0]}"
        case Route():
            groups = f" part {layer.group_id} of {layer.groups}" if layer.groups > 1 else ""
            return " ".join(map(str, layer.layers)) + groups
        case Shortcut():
            return " ".join(map(str, layer.layers)) + f" {layer.activation}"
        case ScaleChannels() | Sam():
            return f"{layer.layer} {layer.activation}"
        case Reorg() | Upsample():
            return f"{layer.stride}"
    return ""
