"""Ways to run a network: pictures in, raw outputs out, safe to call from many threads."""

from lookonce.engines.engine import (
    Engine,
    EngineKind,
    Precision,
    available_engines,
    available_precisions,
    engine_of,
    open_engine,
)

__all__ = [
    "Engine",
    "EngineKind",
    "Precision",
    "available_engines",
    "available_precisions",
    "engine_of",
    "open_engine",
]
