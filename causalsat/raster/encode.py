"""From a plan to rows: the fit sample, chips read ahead, static batches, one vector per place."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import DataError, RasterCoverageWarning, warn
from causalsat.raster.encoders.protocol import Encoder, FitSample, FittedEncoder
from causalsat.raster.normalise import FittedNormaliser, Normalise, fit_normaliser, keyed_order
from causalsat.raster.parts import ShardRows

if TYPE_CHECKING:
    from causalsat.raster.places import Places
    from causalsat.raster.plan import Plan
    from causalsat.raster.reader import ChipBatch, ChipReader
    from causalsat.raster.sources import Sources

USABLE = ("ok", "partial")


@dataclass(frozen=True)
class Work:
    """An embedding job with everything resolved and nothing read yet."""

    places: "Places"
    sources: "Sources"
    plan: "Plan"
    encoder: Encoder
    normalise: Normalise
    min_valid_frac: float
    batch_size: int
    seed: int
    request: dict[str, Any]
    """What determines values, as plain JSON."""
    open_reader: Callable[[], "ChipReader"]
    keep_errors: bool = False
    """Whether a part with ``read_error`` rows counts as done."""

    @property
    def keys(self) -> list[str]:
        """What names a place in hashes: its id, with the date that tells rows apart where ids repeat."""
        ids = [str(i) for i in self.places.ids]
        if len(set(ids)) == len(ids) or self.places.anchor is None:
            return ids
        return [f"{i}@{date}" for i, date in zip(ids, self.places.anchor)]


@dataclass(frozen=True)
class Fitted:
    """The numbers of a job's encoder and normaliser."""

    encoder: FittedEncoder
    normaliser: FittedNormaliser


def fit(work: Work) -> Fitted:
    """Fit normaliser and encoder on the places with the smallest hash of (seed, id), whatever the order of rows."""
    n_bands = len(work.sources.band_names)
    if work.normalise.fit == "sample":
        chosen = work.normalise.fit_ids
        allowed = None if chosen is None else frozenset(str(i) for i in chosen)
        normaliser = fit_normaliser(work.normalise, _sample(work, work.normalise.n_fit, allowed), n_bands, work.seed)
    else:
        normaliser = work.normalise.resolve(work.sources.dtype, n_bands)
    chips = list(_sample(work, work.encoder.n_fit_places))
    n_px = work.plan.n_px
    if work.encoder.n_fit_places and not chips:
        raise DataError(
            "The encoder has nothing to be fitted on: no place has a chip with enough valid pixels "
            f"(min_valid_frac={work.min_valid_frac:g})."
        )
    sample = FitSample(
        tuple(name for name, _, _ in chips),
        np.stack([p for _, p, _ in chips]) if chips else np.zeros((0, n_px, n_px, n_bands), work.sources.dtype),
        np.stack([m for _, _, m in chips]) if chips else np.zeros((0, n_px, n_px), bool),
        normaliser.apply,
        tuple(work.sources.band_names),
        n_px,
    )
    return Fitted(work.encoder.fit(sample), normaliser)


def _sample(work: Work, n: int, allowed: frozenset[str] | None = None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Key, pixels and mask of the first ``n`` usable places in the order of their hashes."""
    keys = work.keys
    order = [i for i in keyed_order(work.seed, keys) if work.plan.status[i] == "ok"]
    if allowed is not None:
        order = [i for i in order if str(work.places.ids[i]) in allowed]
    if n == 0:
        return
    found = 0
    with work.open_reader() as reader:
        for start in range(0, len(order), work.batch_size):
            batch = reader.read(np.asarray(order[start : start + work.batch_size], dtype=np.int64))
            for i in np.flatnonzero(usable(batch.status, batch.valid_frac, work.min_valid_frac)):
                yield keys[int(batch.rows[i])], batch.pixels[i], batch.mask[i]
                found += 1
                if found == n:
                    return


def usable(status: np.ndarray, valid_frac: np.ndarray, min_valid_frac: float) -> np.ndarray:
    """Which chips are encoded: read without failure and valid enough."""
    return np.asarray(np.isin(status, USABLE) & (np.nan_to_num(valid_frac) >= min_valid_frac))


def encode_shards(
    work: Work, fitted: Fitted, shards: Sequence[int], done: Callable[[int], Any]
) -> Iterator[tuple[int, ShardRows]]:
    """Rows of each shard in turn, while the reader's threads stay ahead of the encoder, also across shards.

    ``done`` is called with the number of places of every batch read.
    """
    if not shards:
        return
    rows = np.concatenate([work.plan.shards[shard] for shard in shards])
    with work.open_reader() as reader:
        batches = _Cut(_reported(reader.batches(rows, work.batch_size), done))
        for shard in shards:
            yield shard, _encode_shard(work, fitted, batches.take(len(work.plan.shards[shard])))


def encode_rows(work: Work, fitted: Fitted, rows: np.ndarray) -> ShardRows:
    """The given places only, by place number."""
    with work.open_reader() as reader:
        return _encode_shard(work, fitted, reader.batches(rows, work.batch_size))


def _reported(batches: Iterator["ChipBatch"], done: Callable[[int], Any]) -> Iterator["ChipBatch"]:
    told = False
    for batch in batches:
        if batch.errors and not told:
            told = True
            warn(f"At least one chip could not be read: {batch.errors[0]}", RasterCoverageWarning)
        done(len(batch))
        yield batch


class _Cut:
    """A stream of batches, taken by number of rows."""

    def __init__(self, batches: Iterator["ChipBatch"]) -> None:
        self._batches = batches
        self._rest: ChipBatch | None = None

    def take(self, n: int) -> Iterator["ChipBatch"]:
        """Batches that hold the next ``n`` rows."""
        while n > 0:
            batch = next(self._batches) if self._rest is None else self._rest
            self._rest = _slice(batch, n, len(batch)) if len(batch) > n else None
            batch = _slice(batch, 0, n) if len(batch) > n else batch
            n -= len(batch)
            yield batch


def _slice(batch: "ChipBatch", start: int, stop: int) -> "ChipBatch":
    rows = {f.name: getattr(batch, f.name)[start:stop] for f in dataclasses.fields(batch) if f.name != "errors"}
    return dataclasses.replace(batch, **rows, errors=())


def _encode_shard(work: Work, fitted: Fitted, batches: Iterable["ChipBatch"]) -> ShardRows:
    queue = _StaticBatches(fitted, work.batch_size)
    pieces: list[ShardRows] = []
    slots: list[np.ndarray] = []
    for batch in batches:
        encodable = usable(batch.status, batch.valid_frac, work.min_valid_frac)
        slots.append(queue.add(batch, encodable))
        pieces.append(_described(work, batch, encodable))
    vectors = queue.vectors()
    slot = np.concatenate(slots)
    embedding = np.full((len(slot), vectors.shape[1]), np.nan, np.float32)
    embedding[slot >= 0] = vectors[slot[slot >= 0]]
    rows = ShardRows.concat(pieces)
    return _without_holes(rows, embedding).ordered()


def _without_holes(rows: ShardRows, embedding: np.ndarray) -> ShardRows:
    """A vector is finite or it is none: where the encoder found too few valid pixels the row says ``low_valid``."""
    holes = np.isin(rows.status, USABLE) & ~np.isfinite(embedding).all(axis=1)
    embedding[holes] = np.nan
    values = {name: getattr(rows, name) for name in rows.__dataclass_fields__}
    return ShardRows(**values | {"embedding": embedding, "status": np.where(holes, "low_valid", rows.status)})


def _described(work: Work, batch: "ChipBatch", encodable: np.ndarray) -> ShardRows:
    n = len(batch.rows)
    low = np.isin(batch.status, USABLE) & ~encodable
    lonlat = np.column_stack([work.places.lon[batch.rows], work.places.lat[batch.rows]])
    return ShardRows(
        unit_id=np.asarray(work.places.ids)[batch.rows].astype(str),
        row=np.asarray(batch.rows, np.int64),
        date=np.asarray(batch.image_date, "datetime64[D]"),
        embedding=np.zeros((n, 0), np.float32),
        valid_frac=np.asarray(batch.valid_frac, np.float32),
        masked_frac=np.asarray(batch.masked_frac, np.float32),
        n_frames=np.asarray(batch.n_frames, np.int16),
        centre_offset_m=np.asarray(batch.centre_offset_m, np.float32),
        native_gsd_m=np.asarray(batch.native_gsd_m, np.float32),
        warped=np.asarray(batch.warped, bool),
        source_id=np.asarray(batch.source_id).astype(str),
        n_sources=np.asarray(batch.n_sources, np.int16),
        status=np.where(low, "low_valid", batch.status).astype("<U16"),
        chip_sha256=np.asarray(batch.sha256).astype(str),
        bounds=np.asarray(batch.bounds, np.float64),
        chip_crs=np.asarray(batch.crs).astype(str),
        lonlat=lonlat.astype(np.float64),
    )


class _StaticBatches:
    """Chips in, vectors out, in batches of one static shape; the last one is padded by repeats and cut.

    Chips with the same pixels and mask are encoded once.
    """

    def __init__(self, fitted: Fitted, size: int) -> None:
        self._fitted, self._size = fitted, size
        self._pixels: list[np.ndarray] = []
        self._masks: list[np.ndarray] = []
        self._seen: dict[str, int] = {}
        self._count = 0
        self._vectors: list[np.ndarray] = []

    def add(self, batch: "ChipBatch", encodable: np.ndarray) -> np.ndarray:
        """Queue the encodable chips; (N,) places of their vectors, -1 for the others."""
        slots = np.full(len(encodable), -1, np.int64)
        for i in np.flatnonzero(encodable):
            key = str(batch.sha256[i])
            slots[i] = self._seen.get(key, self._count) if key else self._count
            if slots[i] == self._count:
                self._seen[key] = self._count
                self._count += 1
                self._pixels.append(batch.pixels[i])
                self._masks.append(batch.mask[i])
                if len(self._pixels) == self._size:
                    self._flush()
        return slots

    def vectors(self) -> np.ndarray:
        """(m, d) float32 for all chips queued so far."""
        if self._pixels:
            self._flush()
        width = len(self._fitted.encoder.feature_names)
        return np.concatenate(self._vectors) if self._vectors else np.zeros((0, width), np.float32)

    def _flush(self) -> None:
        n = len(self._pixels)
        padding = self._size - n
        pixels = np.stack(self._pixels + self._pixels[:1] * padding)
        mask = np.stack(self._masks + self._masks[:1] * padding)
        values = self._fitted.encoder.encode(self._fitted.normaliser.apply(pixels, mask), mask)
        self._vectors.append(np.asarray(values, np.float32)[:n])
        self._pixels, self._masks = [], []
