"""What a plan will cost, and which raster layouts make it dear."""

from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.errors import RasterLayoutWarning, warn
from causalsat.raster.handles import MIN_CACHE, cache_size

if TYPE_CHECKING:
    from causalsat.raster.plan import Plan
    from causalsat.raster.sources import Item

MANY_FILES = 2000
TINY_FILE = 64 * 1024
FAR_LARGER = 16
MANY_BANDS = 8


def describe(plan: "Plan") -> dict[str, Any]:
    """Counts by status, plain and warped chips, blocks and bytes, memory and disk of a plan, as plain JSON.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    dict
        ``rows, unique_chips, plain, warped, off_raster, status`` (counts), ``files, blocks, decoded_bytes,
        compressed_bytes`` (of the blocks under the primary windows; compressed is the same share of the files),
        ``cache_bytes, chip_bytes, disk_bytes_per_feature`` and ``layout`` (warnings).
    """
    read = plan.grid_crs >= 0
    names, counts = np.unique(plan.status, return_counts=True)
    blocks, decoded, compressed, files = _blocks(plan)
    chip = plan.n_px**2 * (plan.sources.n_bands * plan.sources.dtype.itemsize + 1)
    return {
        "rows": plan.n_rows,
        "unique_chips": len(np.unique(plan.window_id[read])),
        "plain": int((read & ~plan.warped).sum()),
        "warped": int((read & plan.warped).sum()),
        "off_raster": int((plan.status == "off_raster").sum()),
        "status": {str(k): int(v) for k, v in zip(names, counts)},
        "shards": len(plan.shards),
        "files": files,
        "blocks": blocks,
        "decoded_bytes": decoded,
        "compressed_bytes": compressed,
        "chip_bytes": chip,
        "cache_bytes": cache_size(4, chip_blocks(plan)),
        "peak_memory_bytes": cache_size(4, chip_blocks(plan)) + 4 * 64 * chip,
        "disk_bytes_per_feature": 4 * plan.n_rows,
        "n_px": plan.n_px,
        "gsd_m": plan.gsd_m,
        "size_m_actual": plan.size_m_actual,
        "layout": layout_problems(plan),
    }


def block_bytes(item: "Item") -> int:
    """Decoded bytes of one block; bands that are stored together are decoded together."""
    together = item.count if item.layout["interleave"] == "pixel" else len(item.bands)
    return item.block[0] * item.block[1] * together * np.dtype(item.dtype).itemsize


def chip_blocks(plan: "Plan") -> int:
    """Decoded bytes of the blocks under one chip and their ring, for the raster where that is most."""
    largest = 0
    for item in plan.sources.items:
        step = item.gsd_m if np.isfinite(item.gsd_m) else plan.gsd_m
        n = plan.n_px * plan.gsd_m / step
        high, wide = (
            min(int(np.ceil(n / b)) + 3, -(-side // b)) for b, side in zip(item.block, (item.height, item.width))
        )
        largest = max(largest, high * wide * block_bytes(item))
    return largest


def _blocks(plan: "Plan") -> tuple[int, int, int, int]:
    """Distinct blocks under the primary windows, their decoded and stored bytes, and the files touched."""
    rows = np.flatnonzero(plan.grid_crs >= 0)
    items = plan.sources.items
    source = plan.source_list[plan.source_start[rows]] if len(rows) else np.zeros(0, np.int64)
    half = plan.n_px * plan.gsd_m / plan.native_gsd_m[rows] / 2.0
    sides = np.array([(i.width, i.height) for i in items])[source]
    block = np.array([(i.block[1], i.block[0]) for i in items])[source]
    low = np.clip(np.floor(plan.position[rows] - half[:, None] + 1e-6), 0, sides - 1).astype(np.int64) // block
    high = np.clip(np.ceil(plan.position[rows] + half[:, None] - 1e-6) - 1, 0, sides - 1).astype(np.int64) // block
    span = (high - low).max(axis=0, initial=0)
    cells = []
    for right in range(int(span[0]) + 1):
        for down in range(int(span[1]) + 1):
            cell = low + np.array([right, down])
            inside = (cell <= high).all(axis=1)
            cells.append(np.unique(np.column_stack([source[inside], cell[inside]]), axis=0))
    touched = np.unique(np.concatenate(cells), axis=0)
    decoded = stored = 0
    for s, n in zip(*np.unique(touched[:, 0], return_counts=True)):
        every = -(-items[s].height // items[s].block[0]) * -(-items[s].width // items[s].block[1])
        decoded += int(n) * block_bytes(items[s])
        stored += int(items[s].layout["n_bytes"] * n / every)
    return len(touched), decoded, stored, len(np.unique(source))


def layout_problems(plan: "Plan") -> list[str]:
    """Layouts that make chips dear, in words, with the cure; rasters that fit the cache whole are left in peace."""
    found: dict[str, str] = {}
    cure = "rewrite it once with causalsat.raster.retile(src, dst, block=256)"
    for item in plan.sources.items:
        n = plan.n_px * plan.gsd_m / (item.gsd_m if np.isfinite(item.gsd_m) else plan.gsd_m)
        whole = item.width * item.height * item.count * np.dtype(item.dtype).itemsize
        if whole <= MIN_CACHE:
            continue
        if item.block[1] >= item.width and item.width > 4 * n:
            found.setdefault(
                "strips", f"{item.name} is stored in strips of {item.width} x {item.block[0]} pixels: {cure}."
            )
        elif item.block[0] * item.block[1] > FAR_LARGER * n * n:
            size = f"{item.block[1]} x {item.block[0]}"
            found.setdefault("blocks", f"{item.name} has blocks of {size} pixels, far larger than a chip: {cure}.")
        if item.layout["interleave"] == "band" and len(item.bands) > MANY_BANDS:
            text = (
                f"{item.name} keeps its {item.count} bands apart, so each chip is read {len(item.bands)} times: {cure}."
            )
            found.setdefault("bands", text)
    sizes = [item.layout["n_bytes"] for item in plan.sources.items]
    if len(sizes) >= MANY_FILES and np.mean(sizes) < TINY_FILE and not plan.sources.keyed:
        found["files"] = (
            f"{len(sizes)} files of {np.mean(sizes):.0f} bytes on average: opening them costs more than reading; merge "
            "them into larger tiles (gdalbuildvrt, then causalsat.raster.retile)."
        )
    return list(found.values())


def warn_layout(plan: "Plan") -> None:
    """Warn once per job about each kind of dear layout."""
    for text in layout_problems(plan):
        warn(text, RasterLayoutWarning)
