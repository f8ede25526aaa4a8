"""The honest baseline: moments and quantiles of each band and of user indices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalsat.errors import OptionError, number
from causalsat.public import public
from causalsat.raster.encoders.indices import Index, band_variables, parse_index
from causalsat.raster.encoders.protocol import FitSample


@public
@dataclass(frozen=True)
class Bands:
    """Per band mean, standard deviation (ddof 0) and quantiles over the valid pixels of a chip.

    The baseline that every study should show beside a learnt representation. Indices such as
    ``ndvi=(nir - red) / (nir + red)`` are summarised like bands; a pixel with a zero denominator is left out of its
    index. Pixels are normalised first, so units are those of the job's ``normalise``.

    Parameters
    ----------
    quantiles : sequence of float
        Probabilities in [0, 1]; linear interpolation between order statistics.
    indices : mapping of str to str
        Name to an arithmetic expression over band names (``b1``, ``b2``, ... always work).

    Raises
    ------
    OptionError
        A probability outside [0, 1], or an expression with anything but numbers, bands and ``+ - * /``.

    Examples
    --------
    >>> from causalsat import Bands
    >>> Bands(quantiles=(0.5,), indices={"ratio": "b1 / b2"}).spec()["quantiles"]
    [0.5]
    """

    quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
    indices: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for q in self.quantiles:
            number("Bands.quantiles", q, 0.0, 1.0, open_ends=False)
        if not isinstance(self.indices, Mapping):
            raise OptionError(f"Bands.indices={self.indices!r} must map a name to an expression over band names.")
        for name, expression in self.indices.items():
            parse_index(name, expression)

    @property
    def n_fit_places(self) -> int:
        """Nothing is fitted."""
        return 0

    def spec(self) -> dict[str, Any]:
        """The options as plain JSON."""
        return {"encoder": "bands", "quantiles": [float(q) for q in self.quantiles], "indices": dict(self.indices)}

    def fit(self, sample: FitSample) -> "FittedBands":
        """Bind the expressions to the bands in use."""
        return self.restore({}, {"band_names": list(sample.band_names)})

    def restore(self, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> "FittedBands":
        """The encoder for the bands named in ``notes``."""
        names = tuple(notes["band_names"])
        allowed = list(band_variables(names))
        indices = tuple(parse_index(name, text, allowed) for name, text in self.indices.items())
        clash = sorted(set(names) & {i.name for i in indices})
        if clash:
            raise OptionError(
                f"Bands.indices names {', '.join(clash)}, which a band is called already; choose another name."
            )
        return FittedBands(names, tuple(float(q) for q in self.quantiles), indices)


@dataclass(frozen=True)
class FittedBands:
    """:class:`Bands` bound to band names."""

    band_names: tuple[str, ...]
    quantiles: tuple[float, ...]
    indices: tuple[Index, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """``bands/<band>/mean``, ``sd``, ``q0.05`` ... band by band, then index by index."""
        summaries = ("mean", "sd", *(f"q{q:g}" for q in self.quantiles))
        layers = (*self.band_names, *(index.name for index in self.indices))
        return tuple(f"bands/{layer}/{summary}" for layer in layers for summary in summaries)

    def encode(self, batch: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(N, n, n, C) to (N, (C + indices) * (2 + quantiles)) float32; NaN where a layer has no valid pixel."""
        layers = [batch[..., i].astype(np.float64) for i in range(batch.shape[-1])]
        variables = {name: layers[i] for name, i in band_variables(self.band_names).items()}
        layers += [np.broadcast_to(index.values(variables), mask.shape) for index in self.indices]
        blocks = [self._summaries(layer, mask & np.isfinite(layer)) for layer in layers]
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def _summaries(self, layer: np.ndarray, valid: np.ndarray) -> np.ndarray:
        values, valid = layer.reshape(len(layer), -1), valid.reshape(len(layer), -1)
        n = valid.sum(axis=1)
        ordered = np.sort(np.where(valid, values, np.inf), axis=1)
        # Sums run over the sorted values, so features depend on the set of pixels and not on their places.
        kept = np.where(np.isfinite(ordered), ordered, 0.0)
        safe = np.maximum(n, 1)
        mean = kept.sum(axis=1) / safe
        deviation = np.where(np.isfinite(ordered), ordered - mean[:, None], 0.0)
        sd = np.sqrt((deviation**2).sum(axis=1) / safe)
        columns = np.column_stack([mean, sd, *(_quantile(ordered, safe, q) for q in self.quantiles)])
        return np.where(n[:, None] > 0, columns, np.nan)

    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing to save."""
        return {}

    def notes(self) -> dict[str, Any]:
        """The bands the expressions are bound to."""
        return {"band_names": list(self.band_names), "indices": [[i.name, i.expression] for i in self.indices]}


def _quantile(ordered: np.ndarray, n: np.ndarray, q: float) -> np.ndarray:
    position = (n - 1) * q
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, n - 1)
    rows = np.arange(len(ordered))
    below, above = ordered[rows, low], ordered[rows, high]
    share = position - low
    with np.errstate(invalid="ignore"):
        return np.where(share == 0, below, below + share * (above - below))
