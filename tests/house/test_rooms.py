"""Which room may import which: read from the source, so that a lazy import counts too."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "causalsat"
LEAVES = {"errors", "facts", "progress", "files", "public"}
MAY_IMPORT = {
    "raster": {"study.embeddings", "kernels"},
    "study": {"kernels"},
    "kernels": set(),
    "estimators": {"study", "kernels", "inference", "effects", "checks"},
    "inference": {"kernels"},
    "effects": {"inference"},
    "checks": {"kernels", "inference", "effects"},
    "simulate": {"study"},
    "interop": set(),
}
KERNEL_PACKAGES = {
    "operator",
    "importlib",
    "jax",
    "jaxtyping",
    "causalsat",
    "functools",
    "typing",
    "math",
    "collections",
    "contextlib",
    "enum",
    "dataclasses",
}


def imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def forbidden(room: str, path: Path) -> list[str]:
    allowed = MAY_IMPORT[room] | {room} | LEAVES
    inside = [name.removeprefix("causalsat.") for name in imports(path) if name.startswith("causalsat.")]
    return [name for name in inside if not any(name == a or name.startswith(f"{a}.") for a in allowed)]


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_room_imports_only_what_it_may(room):
    found = {str(p.relative_to(PACKAGE)): forbidden(room, p) for p in sorted((PACKAGE / room).rglob("*.py"))}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_every_folder_is_a_room():
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert folders == set(MAY_IMPORT)


def test_top_level_holds_only_leaves_and_the_door_to_everything():
    names = {p.stem for p in PACKAGE.glob("*.py")}
    assert names == LEAVES | {"__init__", "config", "run", "cli"}


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_nothing_of_ours_but_leaves(leaf):
    inside = [n for n in imports(PACKAGE / f"{leaf}.py") if n.startswith("causalsat.")]
    assert all(n.split(".")[1] in LEAVES for n in inside)


def test_kernels_import_jax_only():
    for path in (PACKAGE / "kernels").rglob("*.py"):
        outside = {name.split(".")[0] for name in imports(path)} - KERNEL_PACKAGES
        assert outside == set(), f"{path.name} imports {outside}"


def test_the_reader_sees_a_forbidden_import(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    from causalsat.estimators.image_ate import image_ate\n    return image_ate\n")
    assert forbidden("inference", path) == ["estimators.image_ate.image_ate"]


def test_no_drawers_without_a_name():
    drawers = {"utils", "helpers", "misc", "common", "tools"}
    assert [str(p) for p in PACKAGE.rglob("*.py") if p.stem in drawers] == []


def test_files_stay_readable():
    long = {
        str(p.relative_to(PACKAGE)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 420
    }
    assert long == {}
