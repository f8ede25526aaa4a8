"""Chips out of rasters, in the order asked for, with masks, statuses and provenance per row."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from causalsat.errors import OptionError, RasterReadError, count, one_of
from causalsat.raster.chip import Frame, covered_by, plain_window, read_onto
from causalsat.raster.dates import NAT
from causalsat.raster.forecast import chip_blocks
from causalsat.raster.handles import SETTINGS, Handles, cache_size, gdal_cache, handles_per_thread, read_errors
from causalsat.raster.plan import Plan
from causalsat.raster.sources import Item

MIN_RUN = 64
AHEAD_BYTES = 16 * 2**20
AVERAGE_ABOVE = 2.0


@dataclass(frozen=True)
class ChipBatch:
    """Chips of some rows of a plan (N chips of n x n pixels, C bands).

    Attributes
    ----------
    rows : ndarray (N,) int64
        Positions of the places.
    pixels : ndarray (N, n, n, C), the rasters' own type
        Rows from north to south; invalid pixels are 0.
    mask : ndarray (N, n, n) bool
        Valid pixels.
    status : ndarray (N,) str
        ``ok`` (all valid), ``partial`` (some valid), ``all_nodata``, ``off_raster``, ``bad_place``, ``no_frame``,
        ``post_treatment`` or ``read_error``.
    valid_frac, masked_frac : ndarray (N,) float32
        Share of pixels that are valid; share that lies on a raster and is masked there.
    centre_offset_m, native_gsd_m : ndarray (N,) float32, metres
    warped : ndarray (N,) bool
        The primary raster was resampled.
    source_id : ndarray (N,) str
        Primary raster, "" where there is none.
    n_sources, n_frames : ndarray (N,) int16
        Rasters that gave pixels, and their distinct dates.
    bounds : ndarray (N, 4) float64
        minx, miny, maxx, maxy in ``crs``; NaN where there is no chip.
    crs : ndarray (N,) str
    image_date : ndarray (N,) datetime64[D]
    sha256 : ndarray (N,) str
        Hash of pixels and mask: equal chips have equal hashes; "" where nothing was read.
    errors : tuple of str
        Messages behind ``read_error``.
    """

    rows: np.ndarray
    pixels: np.ndarray
    mask: np.ndarray
    status: np.ndarray
    valid_frac: np.ndarray
    masked_frac: np.ndarray
    centre_offset_m: np.ndarray
    native_gsd_m: np.ndarray
    warped: np.ndarray
    source_id: np.ndarray
    n_sources: np.ndarray
    n_frames: np.ndarray
    bounds: np.ndarray
    crs: np.ndarray
    image_date: np.ndarray
    sha256: np.ndarray
    errors: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)


class ChipReader:
    """Reads the chips of a plan; use as a context manager.

    Parameters
    ----------
    plan : Plan
    threads : int, optional
        Reading threads, each with its own handles; None: 4, or the number of cores if that is smaller.
    on_error : {"raise", "record"}
        Raise :class:`~causalsat.errors.RasterReadError` at the first unreadable window, or give the row the status
        ``read_error``.
    cache_bytes : int, optional
        GDAL's block cache while the reader is open; it is put back on exit.

    Examples
    --------
    >>> import numpy as np
    >>> from rasterio.transform import from_origin
    >>> from causalsat.raster.places import read_places
    >>> from causalsat.raster.plan import make_plan
    >>> from causalsat.raster.reader import ChipReader
    >>> from causalsat.raster.sources import open_sources
    >>> image = np.arange(300, dtype=np.uint16).reshape(3, 10, 10)
    >>> sources = open_sources((image, from_origin(500000, 100000, 10, 10), "EPSG:32636"))
    >>> places = read_places({"longitude": [33.00045], "latitude": [0.9042]})
    >>> with ChipReader(make_plan(places, sources, size_m=40), threads=1) as reader:
    ...     reader.read(np.array([0])).pixels.shape
    (1, 4, 4, 3)
    """

    def __init__(
        self, plan: Plan, *, threads: int | None = None, on_error: str = "raise", cache_bytes: int | None = None
    ) -> None:
        self.plan = plan
        self.threads = min(4, os.cpu_count() or 1) if threads is None else count("threads", threads, 1)
        self.on_error = one_of("on_error", on_error, ["raise", "record"])
        if cache_bytes is not None and cache_bytes < 2**20:
            raise OptionError(f"cache_bytes={cache_bytes} is below 1 MiB: it counts bytes, so 64 MiB is 64 * 2**20.")
        self.cache_bytes = cache_size(self.threads, chip_blocks(plan)) if cache_bytes is None else cache_bytes
        self._stack: ExitStack | None = None
        self._workers: list[ThreadPoolExecutor] = []
        self._handles: list[Handles] = []

    def __enter__(self) -> "ChipReader":
        self._stack = ExitStack()
        self._stack.enter_context(gdal_cache(self.cache_bytes))
        limit = handles_per_thread(self.threads)
        self._workers = [ThreadPoolExecutor(1, thread_name_prefix="causalsat-read") for _ in range(self.threads)]
        self._handles = [Handles(limit) for _ in range(self.threads)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker, handles in zip(self._workers, self._handles):
            worker.shutdown(wait=True, cancel_futures=True)
            handles.close()
        if self._stack is not None:
            self._stack.close()
        self._stack, self._workers, self._handles = None, [], []

    def read(self, rows: Any) -> ChipBatch:
        """Read the chips of ``rows``, in that order; equal windows are read once.

        Parameters
        ----------
        rows : array-like (N,) int
            Positions of places; fastest in the plan's reading order.

        Returns
        -------
        ChipBatch

        Raises
        ------
        RasterReadError
            A window cannot be read and ``on_error="raise"``; names file, window, place and cause.
        """
        rows = np.asarray(rows, np.int64).reshape(-1)
        n_runs = max(1, min(self.threads, len(rows) // MIN_RUN))
        batch = _empty(self.plan, rows)
        starts = np.linspace(0, len(rows), n_runs + 1).astype(int)
        futures = [self._submit(k, batch, range(starts[k], starts[k + 1])) for k in range(n_runs)]
        return _finished(self.plan, batch, [text for future in futures for text in future.result()])

    def batches(self, rows: Any, batch_size: int) -> Iterator[ChipBatch]:
        """Chips of ``rows`` in batches, in order, read ahead by all threads.

        Each thread takes runs of consecutive batches, so that it decodes its own stretch of blocks once; about 16 MiB
        of chips per thread wait ahead of use.
        """
        rows = np.asarray(rows, np.int64).reshape(-1)
        chip_bytes = self.plan.n_px**2 * (self.plan.sources.n_bands * self.plan.sources.dtype.itemsize + 1)
        run = max(1, min(MIN_RUN, AHEAD_BYTES // chip_bytes) // count("batch_size", batch_size, 1))
        pending: deque[tuple[ChipBatch, Future[list[str]]]] = deque()
        for i, start in enumerate(range(0, len(rows), batch_size)):
            batch = _empty(self.plan, rows[start : start + batch_size])
            pending.append((batch, self._submit((i // run) % self.threads, batch, range(len(batch)))))
            if len(pending) > run * self.threads:
                first, future = pending.popleft()
                yield _finished(self.plan, first, future.result())
        while pending:
            first, future = pending.popleft()
            yield _finished(self.plan, first, future.result())

    def _submit(self, worker: int, batch: ChipBatch, part: range) -> "Future[list[str]]":
        if not self._workers:
            raise OptionError("The reader is closed; use it inside `with ChipReader(plan) as reader:`.")
        return self._workers[worker].submit(_read_run, self.plan, self._handles[worker], batch, part, self.on_error)


def _empty(plan: Plan, rows: np.ndarray) -> ChipBatch:
    """All that is known before reading."""
    n, size = plan.n_px, len(rows)
    first = np.where(plan.grid_crs[rows] >= 0, plan.source_start[rows], -1)
    names = np.array(["", *[item.name for item in plan.sources.items]])
    primary = np.where(first >= 0, plan.source_list[first] if len(plan.source_list) else -1, -1)
    side = n * plan.step[rows]
    x, y = plan.origin[rows].T if size else np.zeros((2, 0))
    return ChipBatch(
        rows=rows, pixels=np.zeros((size, n, n, plan.sources.n_bands), plan.sources.dtype),
        mask=np.zeros((size, n, n), bool), status=plan.status[rows].copy(), valid_frac=np.zeros(size, np.float32),
        masked_frac=np.zeros(size, np.float32), centre_offset_m=plan.centre_offset_m[rows].astype(np.float32),
        native_gsd_m=plan.native_gsd_m[rows].astype(np.float32), warped=plan.warped[rows].copy(),
        source_id=names[primary + 1], n_sources=np.zeros(size, np.int16), n_frames=np.zeros(size, np.int16),
        bounds=np.stack([x, y - side, x + side, y], axis=1),
        crs=np.array(["", *plan.crs])[plan.grid_crs[rows] + 1], image_date=plan.image_date[rows].copy(),
        sha256=np.full(size, "", "<U64"),
    )  # fmt: skip


def _finished(plan: Plan, batch: ChipBatch, errors: list[str]) -> ChipBatch:
    return ChipBatch(**{**batch.__dict__, "errors": tuple(errors)})


def _read_run(plan: Plan, handles: Handles, batch: ChipBatch, part: range, on_error: str) -> list[str]:
    """Read consecutive chips of a batch on one thread; returns the recorded errors."""
    import rasterio

    errors: list[str] = []
    seen: dict[int, int] = {}
    with rasterio.Env(**SETTINGS):
        for i in part:
            row = int(batch.rows[i])
            if plan.grid_crs[row] < 0:
                continue
            twin = seen.setdefault(int(plan.window_id[row]), i)
            if twin != i:
                _copy(batch, twin, i)
                continue
            try:
                _read_chip(plan, handles, batch, i, row)
            except RasterReadError as error:
                if on_error == "raise":
                    raise
                errors.append(str(error))
                batch.pixels[i], batch.mask[i], batch.status[i] = 0, False, "read_error"
                batch.sha256[i], batch.valid_frac[i], batch.n_sources[i] = "", 0.0, 0
    return errors


def _copy(batch: ChipBatch, twin: int, i: int) -> None:
    for name in ("pixels", "mask", "status", "valid_frac", "masked_frac", "n_sources", "n_frames", "sha256"):
        values = getattr(batch, name)
        values[i] = values[twin]


def _read_chip(plan: Plan, handles: Handles, batch: ChipBatch, i: int, row: int) -> None:
    """Read one chip from its rasters in order, each filling what the earlier ones left invalid."""
    x, y = plan.origin[row].tolist()
    frame = Frame(plan.crs[plan.grid_crs[row]], x, y, float(plan.step[row]), plan.n_px)
    pixels, mask = batch.pixels[i], batch.mask[i]
    used: list[Item] = []
    listed = [plan.sources.items[s] for s in plan.sources_of(row)]
    for item in listed:
        if item is listed[0]:
            mask[:] = _read_item(plan, handles, item, frame, row, pixels)
            gained = bool(mask.any())
        else:
            canvas = np.zeros_like(pixels)
            new = _read_item(plan, handles, item, frame, row, canvas) & ~mask
            pixels[new], mask[new] = canvas[new], True
            gained = bool(new.any())
        if gained:
            used.append(item)
        if mask.all():
            break
    share = mask.mean()
    batch.valid_frac[i] = share
    batch.status[i] = "ok" if share == 1.0 else "partial" if share > 0.0 else "all_nodata"
    if share < 1.0:
        on_raster = np.logical_or.reduce([covered_by(item, frame) for item in listed])
        batch.masked_frac[i] = (on_raster & ~mask).mean()
    batch.n_sources[i] = len(used)
    batch.n_frames[i] = len({item.last_day if not np.isnat(item.last_day) else NAT.astype(int) for item in used})
    digest = hashlib.sha256(pixels)
    digest.update(np.packbits(mask).tobytes())
    batch.sha256[i] = digest.hexdigest()


def _read_item(plan: Plan, handles: Handles, item: Item, frame: Frame, row: int, out: np.ndarray) -> np.ndarray:
    try:
        raster = handles.get(item.path)
        return read_onto(raster, item, frame, _resampling(plan, item, row), plan.mask_rule, out)
    except read_errors() as error:
        corner = plain_window(item, frame)
        where = (
            f"bounds {tuple(round(b, 3) for b in frame.bounds)}"
            if corner is None
            else f"columns {corner[0]} to {corner[0] + frame.n}, rows {corner[1]} to {corner[1] + frame.n}"
        )
        raise RasterReadError(
            f"{item.name} cannot be read in the window of place {str(plan.places.ids[row])!r} ({where}): {error}. "
            "Replace "
            'the file, leave the place out, or pass on_error="record" to keep the row with status read_error.'
        ) from error


def _resampling(plan: Plan, item: Item, row: int) -> str:
    if plan.resampling != "auto":
        return plan.resampling
    if item.categorical:
        return "nearest"
    native = item.gsd_m if np.isfinite(item.gsd_m) else float(plan.native_gsd_m[row])
    return "average" if plan.gsd_m > AVERAGE_ABOVE * native * (1.0 + 1e-9) else "bilinear"
