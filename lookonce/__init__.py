"""lookonce: the networks of Darknet, in Python.

    import lookonce

    detect = lookonce.load("yolov3-tiny.cfg", "yolov3-tiny.weights", names="coco.names")
    for found in detect("dog.jpg"):
        print(found.name, found.score, found.xyxy)

Names are imported when they are first used, so that `import lookonce` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookonce.classifier import Answer, Classifier
    from lookonce.data import open_dataset
    from lookonce.detections import Detection, Detections
    from lookonce.detector import Detector
    from lookonce.errors import (
        CfgError,
        CheckError,
        DataError,
        DownloadError,
        EngineError,
        InputError,
        LookonceError,
        LookonceWarning,
        WeightsError,
    )
    from lookonce.exam import Exam
    from lookonce.loading import load
    from lookonce.model import Model, open_model

__version__ = "0.1.0"

_HOMES = {
    "Answer": "classifier",
    "Classifier": "classifier",
    "Detection": "detections",
    "Detections": "detections",
    "Detector": "detector",
    "CfgError": "errors",
    "CheckError": "errors",
    "DataError": "errors",
    "DownloadError": "errors",
    "EngineError": "errors",
    "InputError": "errors",
    "LookonceError": "errors",
    "LookonceWarning": "errors",
    "WeightsError": "errors",
    "Exam": "exam",
    "load": "loading",
    "Model": "model",
    "open_dataset": "data",
    "open_model": "model",
}

__all__ = [
    "Answer",
    "CfgError",
    "CheckError",
    "Classifier",
    "DataError",
    "Detection",
    "Detections",
    "Detector",
    "DownloadError",
    "EngineError",
    "Exam",
    "InputError",
    "LookonceError",
    "LookonceWarning",
    "Model",
    "WeightsError",
    "load",
    "open_dataset",
    "open_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
