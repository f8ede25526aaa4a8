"""float64 without touching the user's JAX: the only file that mentions the x64 switch."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import jax


def _scope() -> Any:
    current = getattr(jax, "enable_x64", None)
    if current is not None:
        return current(True)
    return importlib.import_module("jax.experimental").enable_x64(True)


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Run the block with 64-bit JAX types and full matmul precision; nothing outside changes.

    The switch is thread-local: every worker thread enters it itself. Arrays leave as NumPy.
    """
    with _scope(), jax.default_matmul_precision("highest"):
        yield
