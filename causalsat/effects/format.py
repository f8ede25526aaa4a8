"""Numbers as text, the same in every renderer."""

import math

import numpy as np

MISSING = "–"


def decimals_for(std_error: np.ndarray, estimate: np.ndarray) -> int | None:
    """Decimals that show three significant digits of a typical standard error; None asks for ``%.4g`` per number.

    Without standard errors the estimates set the scale; scales that differ by more than 10^4 are shown per number.
    """
    spread = std_error[np.isfinite(std_error) & (std_error > 0.0)]
    scale = spread if spread.size else np.abs(estimate[np.isfinite(estimate) & (estimate != 0.0)])
    if not scale.size:
        return 3
    if scale.max() / scale.min() > 1e4:
        return None
    decimals = 2 - math.floor(math.log10(float(np.median(scale))))
    return None if decimals > 8 else max(decimals, 0)


def show_number(value: float, decimals: int | None) -> str:
    """A number with fixed decimals; NaN is a dash, infinity a word, minus a plain hyphen."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    text = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
    return text[1:] if text.startswith("-") and float(text) == 0.0 else text


def show_p_value(value: float) -> str:
    """Three decimals, "<0.001" below that, a dash for NaN."""
    if math.isnan(value):
        return MISSING
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def show_percent(level: float) -> str:
    """0.95 → "95%", 0.999 → "99.9%"."""
    return f"{100.0 * level:.6g}%"
