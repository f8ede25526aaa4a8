"""Pixel distributions in words."""

from typing import TYPE_CHECKING, Any

import numpy as np

from causalsat.facts import counted

if TYPE_CHECKING:
    from causalsat.raster.zonal import PixelDistributions

WEIGHTS = {
    "coverage": "share of the pixel inside the zone",
    "area": "area of the pixel inside the zone, m²",
    "count": "1 for every pixel",
}
SHOWN_RASTERS = 3
SHOWN_CRS = 40


def told(found: "PixelDistributions") -> tuple[str, list[tuple[str, str]]]:
    """Headline and facts of a printed result: form, statuses, pixels, masks, cover, values, rasters."""
    table = found.summary
    n_pixels = table["n_pixels"].to_numpy()
    facts = [("status", _statuses(found)), ("pixels", _pixels(n_pixels))]
    facts += [("masked", _masked(table["n_masked"].to_numpy(), n_pixels))]
    outside = table["share_outside"].to_numpy(dtype=np.float64)
    beyond = outside > 1e-6
    if beyond.any():
        most = f"up to {100.0 * outside[beyond].max():.3g}% of one"
        facts.append(("outside", f"{counted(int(beyond.sum()), 'zone')} not fully covered, {most}"))
    facts.append(("values", _span(table["low"], table["high"]) + _means(table["mean"])))
    facts += _form(found)
    if found.meta.get("weight") in WEIGHTS:
        facts.append(("weight", WEIGHTS[found.meta["weight"]]))
    if found.meta.get("rasters"):
        facts.append(("rasters", _rasters(found.meta)))
    return f"PixelDistributions: {counted(len(found), 'zone')}, {_kind(found)}", facts


def _kind(found: "PixelDistributions") -> str:
    if found.pixels is not None:
        return "one row per pixel"
    if found.counts is not None:
        return f"histograms of {counted(found.counts.shape[1], 'bin')}"
    return counted(0 if found.quantiles is None else found.quantiles.size, "quantile")


def _statuses(found: "PixelDistributions") -> str:
    status, many = np.unique(found.summary["status"].to_numpy().astype(str), return_counts=True)
    order = sorted(range(len(status)), key=lambda i: (status[i] != "ok", -many[i], status[i]))
    few = f" (fewer than {found.meta['min_pixels']})" if "min_pixels" in found.meta else ""
    return ", ".join(f"{many[i]} {status[i]}{few if status[i] == 'few_pixels' else ''}" for i in order) or "none"


def _pixels(n_pixels: np.ndarray) -> str:
    used = n_pixels[n_pixels > 0]
    if not used.size:
        return "none with a value"
    return f"{used.sum()} with a value, {used.min()} to {used.max()} in a zone (median {np.median(used):g})"


def _masked(n_masked: np.ndarray, n_pixels: np.ndarray) -> str:
    lost, seen = int(n_masked.sum()), int(n_masked.sum() + n_pixels.sum())
    return f"{lost} without a value ({100.0 * lost / seen:.3g}%)" if lost else "none"


def _span(low: Any, high: Any) -> str:
    ends = np.array([low, high], dtype=np.float64)
    return f"{np.nanmin(ends):.6g} to {np.nanmax(ends):.6g}" if np.isfinite(ends).any() else "none"


def _means(mean: Any) -> str:
    known = np.asarray(mean, dtype=np.float64)
    known = known[np.isfinite(known)]
    return f", means of zones {known.min():.6g} to {known.max():.6g}" if known.size else ""


def _form(found: "PixelDistributions") -> list[tuple[str, str]]:
    """What is particular to histograms and quantiles."""
    if found.edges is not None:
        width, exact = found.meta.get("bin_width"), found.meta.get("exact")
        each = "" if width is None else f", {width:.6g} wide"
        return [("bins", f"{found.edges[0]:.6g} to {found.edges[-1]:.6g}{each}{', exact' if exact else ''}")]
    if found.quantiles is not None and found.values is not None:
        levels = f"levels {found.quantiles[0]:.6g} to {found.quantiles[-1]:.6g}"
        return [("quantiles", f"{levels}, values {_span(found.values, found.values)}")]
    return []


def _rasters(meta: dict[str, Any]) -> str:
    names, systems = list(meta["rasters"]), list(dict.fromkeys(meta.get("crs", [])))
    more = f" and {len(names) - SHOWN_RASTERS} more" if len(names) > SHOWN_RASTERS else ""
    parts = [", ".join(str(name) for name in names[:SHOWN_RASTERS]) + more]
    parts += [f"band {meta['band']}"] if "band" in meta else []
    parts += [", ".join(str(crs)[:SHOWN_CRS] for crs in systems)] if systems else []
    return "; ".join(parts)
