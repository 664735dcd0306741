"""Ways to run a graph: pictures in, raw outputs out, safe to call from many threads."""

from lookonce.engines.engine import (
    Engine,
    EngineKind,
    Precision,
    available_engines,
    available_precisions,
    open_engine,
)

__all__ = ["Engine", "EngineKind", "Precision", "available_engines", "available_precisions", "open_engine"]
