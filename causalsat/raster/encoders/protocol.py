"""What the embedding job asks of an encoder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True)
class FitSample:
    """The chips an encoder may look at before the job: sorted by the hash of (seed, id), never by row.

    Pixels stay in their native type until they are asked for, so that a sample of large chips fits in memory.
    """

    ids: tuple[str, ...]
    pixels: np.ndarray
    """(M, n, n, C), native dtype."""
    mask: np.ndarray
    """(M, n, n) bool."""
    normalise: Callable[[np.ndarray, np.ndarray], np.ndarray]
    band_names: tuple[str, ...]
    n_px: int

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for name, pixels, mask in zip(self.ids, self.pixels, self.mask):
            yield name, self.normalise(pixels, mask), mask

    @property
    def n_bands(self) -> int:
        """C, the number of bands."""
        return len(self.band_names)


@runtime_checkable
class FittedEncoder(Protocol):
    """An encoder whose numbers are fixed."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """d names, one per column."""
        ...

    def encode(self, batch: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(N, n, n, C) float32 normalised pixels and (N, n, n) bool validity to (N, d) float32."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """The fitted arrays, saved beside the embeddings."""
        ...

    def notes(self) -> dict[str, Any]:
        """Fitted facts as plain JSON (ids seen, thresholds), saved beside the arrays."""
        ...


class Encoder(Protocol):
    """The declaration of an encoder: frozen options and how to obtain the numbers."""

    @property
    def n_fit_places(self) -> int:
        """How many places :meth:`fit` wants to see; 0 for an encoder without data-dependent numbers."""
        ...

    def spec(self) -> dict[str, Any]:
        """The options as plain JSON; part of the job id."""
        ...

    def fit(self, sample: FitSample) -> FittedEncoder:
        """Fix the numbers; a pure function of the sample and the options."""
        ...

    def restore(self, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> FittedEncoder:
        """The fitted encoder that ``arrays()`` and ``notes()`` describe; never fits again."""
        ...
