"""Pixels to the numbers that an encoder sees: declared, serialised, never a hidden statistic."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalsat.errors import DataError, OptionError, count, one_of
from causalsat.public import public

KINDS = ("scale", "zscore", "percentile", "log1p", "none")
_PIXELS_PER_CHIP = 4096


@public
@dataclass(frozen=True)
class Normalise:
    """How raw pixels become encoder input: ``z = (g(x) - centre) / spread``, then ``clip``.

    ``g`` is the identity, or ``log(1 + max(x, 0))`` for ``kind="log1p"``. ``scale`` has centre 0 and the given
    ``spread`` as divisor (uint8: 255 unless stated); ``zscore`` uses mean and standard deviation (ddof 0);
    ``percentile`` sends the ``percentiles`` to 0 and 1; ``none`` leaves pixels alone.

    Parameters
    ----------
    kind : {"scale", "zscore", "percentile", "log1p", "none"}
        The map.
    per_band : bool
        Whether fitted numbers are per band or common to all bands.
    clip : (float, float), optional
        Bounds applied last, in normalised units.
    fit : {"given", "sample"}
        ``"given"``: centre and spread are stated here. ``"sample"``: fitted on valid pixels of the ``n_fit`` places
        with the smallest hash of (seed, id), so that the order of places does not matter.
    n_fit : int
        Places in the fit sample.
    centre, spread : float or sequence of C floats, optional
        The numbers for ``fit="given"``, in raw units (log units for ``log1p``).
    percentiles : (float, float)
        Lower and upper percentile in 0 to 100.
    fit_ids : sequence of str, optional
        The only ids that may enter the fit (training folds).

    Raises
    ------
    OptionError
        Unknown kind, a missing divisor, a zero spread, or a fit that the kind does not have.

    Examples
    --------
    >>> from causalsat import Normalise
    >>> Normalise(kind="scale", spread=10000).resolve("uint16", 3).spread
    (10000.0, 10000.0, 10000.0)
    """

    kind: str = "scale"
    per_band: bool = True
    clip: tuple[float, float] | None = None
    fit: str = "given"
    n_fit: int = 1000
    centre: float | Sequence[float] | None = None
    spread: float | Sequence[float] | None = None
    percentiles: tuple[float, float] = (2.0, 98.0)
    fit_ids: Sequence[str] | None = None

    def __post_init__(self) -> None:
        one_of("Normalise.kind", self.kind, KINDS)
        one_of("Normalise.fit", self.fit, ("given", "sample"))
        count("Normalise.n_fit", self.n_fit, 1)
        if self.fit == "sample" and self.kind not in ("zscore", "percentile"):
            raise OptionError(f'Normalise(kind="{self.kind}", fit="sample"): only zscore and percentile are fitted.')
        if (
            self.fit == "given"
            and self.kind in ("zscore", "percentile")
            and (self.centre is None or self.spread is None)
        ):
            raise OptionError(
                f'Normalise(kind="{self.kind}") needs centre= and spread= per band, or fit="sample" to fit them on the '
                "pixels of the job."
            )
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise OptionError(f"Normalise.percentiles={self.percentiles!r} must satisfy 0 <= low < high <= 100.")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise OptionError(f"Normalise.clip={self.clip!r} must be (low, high) with low < high.")

    def spec(self) -> dict[str, Any]:
        """The declaration as plain JSON; part of the job id."""
        values = dataclasses.asdict(self)
        values["fit_ids"] = None if self.fit_ids is None else _digest(self.fit_ids)
        for name in ("centre", "spread"):
            values[name] = None if values[name] is None else np.atleast_1d(values[name]).astype(float).tolist()
        values["clip"] = None if self.clip is None else [float(v) for v in self.clip]
        values["percentiles"] = [float(v) for v in self.percentiles]
        return values

    def resolve(self, dtype: Any, n_bands: int) -> "FittedNormaliser":
        """The map for one pixel type when nothing is fitted; refuses integers whose scale is not stated."""
        dtype = np.dtype(dtype)
        spread = self.spread
        if self.kind == "scale" and spread is None:
            if dtype != np.uint8:
                raise OptionError(
                    f'Normalise(kind="scale") has no divisor for {dtype} pixels (uint8 is divided by 255): state it, '
                    'for example normalise=Normalise(kind="scale", spread=10000), or use Normalise(kind="none").'
                )
            spread = 255.0
        centre = _per_band("centre", 0.0 if self.centre is None else self.centre, n_bands)
        return FittedNormaliser(
            self.kind, centre, _per_band("spread", 1.0 if spread is None else spread, n_bands), self.clip
        )


@dataclass(frozen=True)
class FittedNormaliser:
    """The numbers of one normaliser and where they came from."""

    kind: str
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    clip: tuple[float, float] | None = None
    fit_ids: tuple[str, ...] = ()

    def apply(self, pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(..., n, n, C) raw pixels to float32; invalid pixels become exactly 0 whatever they held."""
        values = pixels.astype(np.float32)
        if self.kind == "log1p":
            values = np.log1p(np.maximum(values, np.float32(0)))
        if any(self.centre):
            values -= np.asarray(self.centre, np.float32)
        if any(s != 1.0 for s in self.spread):
            values /= np.asarray(self.spread, np.float32)
        if self.clip is not None:
            np.clip(values, *(np.float32(c) for c in self.clip), out=values)
        if not mask.all():
            values[~mask] = 0.0
        return values

    def spec(self) -> dict[str, Any]:
        """The numbers as plain JSON, with the ids that were seen and their hash."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values | {"fit_ids_sha256": _digest(self.fit_ids)}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> "FittedNormaliser":
        """The normaliser that :meth:`spec` wrote."""
        clip = spec["clip"]
        return cls(
            spec["kind"],
            tuple(spec["centre"]),
            tuple(spec["spread"]),
            None if clip is None else (clip[0], clip[1]),
            tuple(spec["fit_ids"]),
        )


def default_normalise(dtype: Any) -> Normalise:
    """What ``normalise=None`` means: uint8 / 255; floats as they are; other integers must be declared."""
    return Normalise(kind="none") if np.dtype(dtype).kind == "f" else Normalise(kind="scale")


def fit_normaliser(
    normalise: Normalise, chips: Iterable[tuple[str, np.ndarray, np.ndarray]], n_bands: int, seed: int
) -> FittedNormaliser:
    """Fit centre and spread on the valid pixels of ``chips``, which are (id, pixels (n, n, C), mask (n, n)).

    Moments use every valid pixel in float64; percentiles use at most 4096 pixels per chip, drawn by (seed, id).
    """
    seen, ids = [], []
    for name, pixels, mask in chips:
        values = pixels[mask].astype(np.float64)
        if len(values):
            ids.append(name)
            values = values if normalise.per_band else values.reshape(-1, 1)
            seen.append(_thin(values, seed, name) if normalise.kind == "percentile" else _moments(values))
    if not ids:
        raise DataError(
            "The normaliser has no valid pixel to be fitted on: no place of its fit sample has usable pixels."
        )
    if normalise.kind == "percentile":
        low, high = np.percentile(np.concatenate(seen), normalise.percentiles, axis=0)
        centre, spread = low, high - low
    else:
        centre, spread = _pooled(np.stack(seen))
    clip = None if normalise.clip is None else (float(normalise.clip[0]), float(normalise.clip[1]))
    spread = np.where(spread > 0, spread, 1.0)
    return FittedNormaliser(
        normalise.kind, _per_band("centre", centre, n_bands), _per_band("spread", spread, n_bands), clip, tuple(ids)
    )


def _moments(values: np.ndarray) -> np.ndarray:
    mean = values.mean(axis=0)
    return np.stack([np.full(len(mean), float(len(values))), mean, ((values - mean) ** 2).sum(axis=0)])


def _pooled(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (ddof 0) of all pixels from each chip's count, mean and squared deviations."""
    n, means, squares = moments[:, 0], moments[:, 1], moments[:, 2]
    total = n.sum(axis=0)
    mean = (n * means).sum(axis=0) / total
    return mean, np.sqrt((squares.sum(axis=0) + (n * (means - mean) ** 2).sum(axis=0)) / total)


def keyed_generator(seed: int, *words: str) -> np.random.Generator:
    """A generator named by ``seed`` and words, the same wherever and in whatever order it is asked for."""
    digest = hashlib.sha256("\x1f".join([str(int(seed)), *words]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def keyed_order(seed: int, ids: Sequence[str]) -> np.ndarray:
    """Positions of ``ids`` sorted by the hash of (seed, id): a random order that rows cannot influence."""
    hashes = [hashlib.sha256(f"{int(seed)}\x1f{name}".encode()).digest() for name in ids]
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__), dtype=np.int64)


def _thin(values: np.ndarray, seed: int, name: str) -> np.ndarray:
    if len(values) <= _PIXELS_PER_CHIP:
        return values
    return values[keyed_generator(seed, "pixels", name).choice(len(values), _PIXELS_PER_CHIP, replace=False)]


def _per_band(name: str, value: Any, n_bands: int) -> tuple[float, ...]:
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if values.shape not in ((1,), (n_bands,)) or not np.isfinite(values).all():
        raise OptionError(
            f"Normalise.{name}={value!r} must be one finite number or one for each of the {n_bands} bands."
        )
    if name == "spread" and not (values != 0).all():
        raise OptionError(f"Normalise.spread={value!r} divides the pixels and must not be zero.")
    return tuple(float(v) for v in np.broadcast_to(values, (n_bands,)))


def _digest(ids: Iterable[str]) -> str:
    return hashlib.sha256("\x1f".join(str(i) for i in ids).encode()).hexdigest()
