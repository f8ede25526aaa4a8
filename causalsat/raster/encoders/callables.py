"""A user's own function as an encoder."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, count
from causalsat.raster.encoders.protocol import FitSample


@dataclass(frozen=True)
class CallableEncoder:
    """``function(batch)`` or ``function(batch, mask)`` giving (N, d) numbers.

    The code of a function cannot be hashed, so its ``name`` and ``version`` stand for it in the job: a saved job needs
    both, and is refused when they change. An encoder that uses location only adjusts for smooth space, not for what
    the image shows.

    Parameters
    ----------
    function : callable
        (N, n, n, C) float32 normalised pixels (invalid ones are 0), and if it takes a second argument the
        (N, n, n) bool mask, to (N, d).
    n_features : int, optional
        d; without it the function is called once on two blank chips to learn it.
    name, version : str, optional
        What stands for the code.
    """

    function: Callable[..., Any]
    n_features: int | None = None
    name: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise OptionError(f"CallableEncoder.function={self.function!r} is not callable.")
        if self.n_features is not None:
            count("CallableEncoder.n_features", self.n_features, 1)

    @property
    def n_fit_places(self) -> int:
        """Nothing is fitted."""
        return 0

    @property
    def named(self) -> bool:
        """Whether name and version are both stated."""
        return bool(self.name) and bool(self.version)

    def spec(self) -> dict[str, Any]:
        """The name and version as plain JSON."""
        return {"encoder": "callable", "name": self.name, "version": self.version, "n_features": self.n_features}

    def fit(self, sample: FitSample) -> "FittedCallable":
        """Learn d if it was not stated; nothing else is fitted."""
        if self.n_features is not None:
            return self.restore({}, {"n_features": int(self.n_features)})
        blank = np.zeros((2, sample.n_px, sample.n_px, sample.n_bands), np.float32)
        values = np.asarray(_call(self.function, blank, np.ones(blank.shape[:3], bool)))
        if values.ndim != 2 or values.shape[0] != 2:
            raise DataError(
                f"The encoder {self.name or 'function'!r} returned shape {values.shape}; it must return (N, d)."
            )
        return self.restore({}, {"n_features": int(values.shape[1])})

    def restore(self, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> "FittedCallable":
        """The function itself."""
        return FittedCallable(self, int(notes["n_features"]))


@dataclass(frozen=True)
class FittedCallable:
    """A :class:`CallableEncoder` ready to be called."""

    options: CallableEncoder
    n_features: int

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``<name>/0000`` ..."""
        return tuple(f"{self.options.name or 'callable'}/{i:04d}" for i in range(self.n_features))

    def encode(self, batch: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Call the function; refuse a wrong shape and numbers that are not finite."""
        values = np.asarray(_call(self.options.function, batch, mask))
        wanted = (len(batch), self.n_features)
        label = f"The encoder {self.options.name or 'function'!r}"
        if values.shape != wanted:
            raise DataError(f"{label} returned shape {values.shape}; it must return (N, d) = {wanted}.")
        if values.dtype.kind not in "fiub":
            raise DataError(f"{label} returned {values.dtype}; it must return real numbers.")
        values = values.astype(np.float32)
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        if bad:
            raise DataError(
                f"{label} returned numbers that are not finite for {bad} of {len(batch)} chips of one batch."
            )
        return values

    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing to save."""
        return {}

    def notes(self) -> dict[str, Any]:
        """The width."""
        return {"n_features": self.n_features}


def _call(function: Callable[..., Any], batch: np.ndarray, mask: np.ndarray) -> Any:
    return function(batch, mask) if _takes_mask(function) else function(batch)


def _takes_mask(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    return len(required) >= 2 or any(p.name == "mask" for p in positional)
