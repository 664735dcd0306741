"""The architecture, held: who may import whom, how long a file may be, which library belongs where."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lookonce"
FILES = sorted(PACKAGE.rglob("*.py"))

# A room is a module or folder right under the package.
# Every room may look into these:
EVERYWHERE = {"arrays", "errors", "files", "shapes"}
MAY_IMPORT: dict[str, set[str]] = {
    "__main__": {"cli"},
    "__init__": {"classifier", "data", "detections", "detector", "errors", "exam", "loading", "model"},
    "errors": set(),
    "shapes": set(),
    "arrays": set(),
    "files": set(),
    "boxes": set(),
    "wordtree": set(),
    "darknet": set(),
    "detections": {"boxes"},
    "truth": {"boxes"},
    "pictures": {"boxes"},
    "draw": {"pictures", "detections"},
    "layers": {"darknet"},
    "heads": {"layers", "darknet", "boxes", "detections", "wordtree"},
    "network": {"layers", "heads", "darknet", "wordtree"},
    "zoo": {"darknet"},
    "model": {"network", "layers", "heads", "darknet", "wordtree", "zoo"},
    "summary": {"network", "layers", "darknet"},
    "surroundings": {"zoo", "engines", "binary", "detector", "model", "network", "darknet", "data"},
    "graph": {"model", "network", "layers", "heads"},
    "binary": {"model", "network", "layers", "darknet"},
    "engines": {"binary", "graph", "model", "heads"},
    "runner": {"engines", "model", "pictures"},
    "chosen": {"engines", "model", "heads", "detections", "wordtree"},
    "detector": {"chosen", "runner", "engines", "model", "heads", "boxes", "detections", "wordtree"},
    "classifier": {"runner", "engines", "model", "wordtree"},
    "loading": {"detector", "classifier", "runner", "engines", "model", "zoo"},
    "benchmark": {"detector", "runner", "engines", "model", "pictures"},
    "savings": {"benchmark", "binary", "engines", "graph", "model", "network", "layers", "darknet", "report"},
    "exporting": {"engines", "graph", "model", "heads", "boxes", "darknet"},
    "video": {"pictures"},
    "sources": {"pictures", "darknet", "video"},
    "results": {"detections"},
    "copies": {"detections", "draw", "sources", "video"},
    "data": {"truth", "pictures", "darknet", "boxes", "wordtree", "draw", "detections"},        # never a network
    "trees": {"wordtree", "darknet", "data", "truth"},                                          # never a network
    "evaluate": {"detections", "truth", "boxes", "wordtree"},                                   # never a network
    "report": {"evaluate", "draw", "pictures", "detections", "truth"},
    "exam": {"detector", "classifier", "data", "evaluate", "report", "pictures", "detections", "wordtree"},
    "nn": {"model", "network", "layers"},
    "losses": {"network", "layers", "heads", "boxes", "truth", "wordtree", "darknet"},
    "train": {"nn", "losses", "data", "model", "network", "heads", "layers", "darknet", "exam", "report", "detector",
              "classifier", "truth", "zoo", "pictures", "draw", "detections", "runner", "engines", "trees", "wordtree"},
    "cli": set(),                                   # everything; checked apart
}

# Libraries that belong to some files only. What is not named here may be used where it is needed.
ONLY_IN: dict[str, set[str]] = {
    "torch": {"nn", "losses", "train"},
    "tensorboard": {"train"},
    "torchvision": set(),
    "cv2": set(),
    "onnx": {"graph", "exporting.py"},
    "openvino": {"engines/openvino.py"},
    "onnxruntime": {"engines/onnxruntime.py"},
    "simplejpeg": {"pictures.py"},
    "PIL": {"pictures.py", "draw.py", "runner.py", "report/pictures.py"},
    "av": {"video"},
    "typer": {"cli"},
    "rich": {"cli"},
    "multiprocessing": {"data/loader.py"},
    "safetensors": {"model/onefile.py"},
    "matplotlib": {"report", "data/plots.py"},
    "jinja2": {"report", "train/page.py"},
    "hotcoco": {"evaluate/tide.py"},
    "urllib": {"zoo/download.py"},
    "http": {"zoo/download.py"},
    "socket": set(),
    "subprocess": set(),
    "pickle": set(),
    "marshal": set(),
    "shelve": set(),
    "yaml": set(),
}


def room(path: Path) -> str:
    """The room that a file of the package is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere, also inside functions and for type checkers."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_looks_only_where_it_may(path: Path) -> None:
    here = room(path)
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("lookonce.")}
    rooms = {each for each in ours if each in MAY_IMPORT}
    if here == "cli":
        return
    assert rooms <= MAY_IMPORT[here] | {here} | EVERYWHERE


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_library_is_used_only_in_its_room(path: Path) -> None:
    inside = path.relative_to(PACKAGE)
    for name in {name.split(".")[0] for name in imports(path)}:
        if name in ONLY_IN:
            assert ONLY_IN[name] & {str(inside), inside.parts[0]}, f"{inside} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_arrows_go_one_way() -> None:
    """No room can be reached from itself."""
    arrows = {here: targets | (EVERYWHERE - {here}) for here, targets in MAY_IMPORT.items() if here not in EVERYWHERE}

    def reaches(start: str, goal: str, seen: frozenset[str] = frozenset()) -> bool:
        return any(
            target == goal or (target not in seen and reaches(target, goal, seen | {target}))
            for target in arrows.get(start, set())
        )

    assert [here for here in arrows if reaches(here, here)] == []


def test_every_room_is_in_the_table_and_the_table_has_no_other() -> None:
    assert {room(path) for path in FILES} == MAY_IMPORT.keys()


def test_nothing_that_could_run_data_is_called() -> None:
    """No pickle (above), no eval, exec, compile or shell on anything, so not on data either."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec", "compile", "__import__"), f"{path}:{node.lineno}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("system", "popen", "allow_pickle"), f"{path}:{node.lineno}"


def test_the_readme_draws_the_tree_as_it_is() -> None:
    """Each room of the package has its line in the README's tree, and each line its room."""
    readme = (PACKAGE.parent / "README.md").read_text()
    tree = re.search(r"```\nlookonce/\n(.*?)```", readme, re.DOTALL)
    assert tree is not None
    lines = {line.split()[0] for line in tree[1].splitlines() if re.match(r"  \S", line)}
    assert lines == {f"{name}/" if (PACKAGE / name).is_dir() else f"{name}.py" for name in MAY_IMPORT}
