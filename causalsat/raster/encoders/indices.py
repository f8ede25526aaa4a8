"""Band indices written as arithmetic over band names: parsed, checked, never evaluated as code."""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from causalsat.errors import OptionError, nearest

_BINARY: dict[type[ast.operator], Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_NOT_A_NAME = re.compile(r"\W")


@dataclass(frozen=True)
class Index:
    """A parsed index such as ``(nir - red) / (nir + red)``."""

    name: str
    expression: str
    tree: ast.expr

    def values(self, bands: Mapping[str, np.ndarray]) -> np.ndarray:
        """The index at every pixel in float64; not finite where a denominator is zero."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return _value(self.tree, bands)


def band_variables(band_names: Sequence[str]) -> dict[str, int]:
    """Names usable in an index: each band's own name where it is an identifier, else ``b1``, ``b2``, ..."""
    names = {f"b{i + 1}": i for i in range(len(band_names))}
    names.update({_NOT_A_NAME.sub("_", name): i for i, name in enumerate(band_names)})
    return {name: i for name, i in names.items() if name.isidentifier()}


def parse_index(name: str, expression: str, allowed: Sequence[str] | None = None) -> Index:
    """Parse ``expression``; only numbers, ``+ - * /``, brackets and the ``allowed`` names may stand in it."""
    if not isinstance(expression, str):
        raise OptionError(f"indices[{name!r}]={expression!r} must be a text such as '(nir - red) / (nir + red)'.")
    try:
        tree = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise OptionError(f"indices[{name!r}]={expression!r} is not an arithmetic expression: {error}.") from error
    _check(name, expression, tree, allowed)
    return Index(name, expression, tree)


def _check(name: str, expression: str, node: ast.AST, allowed: Sequence[str] | None) -> None:
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        _check(name, expression, node.left, allowed)
        _check(name, expression, node.right, allowed)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        _check(name, expression, node.operand, allowed)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return
    elif isinstance(node, ast.Name):
        if allowed is not None and node.id not in allowed:
            raise OptionError(
                f"indices[{name!r}]={expression!r} names the band {node.id!r}, which is not among the bands in use: "
                f"{', '.join(allowed)}.{nearest(node.id, allowed)}"
            )
    else:
        raise OptionError(
            f"indices[{name!r}]={expression!r} holds {ast.unparse(node)!r}; allowed are numbers, band names, brackets "
            "and + - * /."
        )


def _value(node: ast.AST, bands: Mapping[str, np.ndarray]) -> np.ndarray:
    if isinstance(node, ast.BinOp):
        return _BINARY[type(node.op)](_value(node.left, bands), _value(node.right, bands))
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, bands)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Name):
        return bands[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return np.asarray(node.value, np.float64)
    raise OptionError(f"{ast.unparse(node)!r} cannot stand in an index.")
