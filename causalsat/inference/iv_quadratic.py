"""Sets of real numbers where a quadratic is not positive: every shape that inverting a test can give."""

import math
from collections.abc import Iterable

Pieces = tuple[tuple[float, float], ...]
LINE: Pieces = ((-math.inf, math.inf),)
_ROUNDING = 64.0 * 2.2e-16


def quadratic_set(a: float, b: float, c: float, size: tuple[float, float, float]) -> Pieces:
    """The set {x : a x^2 - 2 b x + c <= 0} as sorted disjoint closed pieces.

    Parameters
    ----------
    a, b, c : float
        Coefficients.
    size : tuple of float
        Magnitudes of the terms each coefficient was summed from; a coefficient below rounding of its size is zero.

    Returns
    -------
    tuple of (float, float)
        () empty; one interval; two rays; one ray (a = 0); or the line. Ends may be infinite.

    Examples
    --------
    >>> quadratic_set(1.0, 0.0, -4.0, (1.0, 1.0, 4.0))
    ((-2.0, 2.0),)
    >>> quadratic_set(-1.0, 0.0, 4.0, (1.0, 1.0, 4.0))
    ((-inf, -2.0), (2.0, inf))
    """
    a, b, c = (0.0 if abs(v) <= _ROUNDING * s else v for v, s in zip((a, b, c), size, strict=True))
    if a == 0.0:
        return _half_line(b, c)
    discriminant = b * b - a * c
    if discriminant < 0.0:
        return () if a > 0.0 else LINE
    # The root of larger magnitude first, the other from the product of roots: no cancellation.
    far = b + math.copysign(math.sqrt(discriminant), b)
    roots = (far / a, c / far) if far != 0.0 else (0.0, 0.0)
    low, high = min(roots), max(roots)
    if a > 0.0:
        return ((low, high),)
    return LINE if low == high else ((-math.inf, low), (high, math.inf))


def _half_line(b: float, c: float) -> Pieces:
    """{x : -2 b x + c <= 0}."""
    if b == 0.0:
        return LINE if c <= 0.0 else ()
    end = c / (2.0 * b)
    return ((end, math.inf),) if b > 0.0 else ((-math.inf, end),)


def union(*sets: Iterable[tuple[float, float]]) -> Pieces:
    """Union of sets of closed pieces, sorted; touching pieces become one.

    Examples
    --------
    >>> union([(2.0, 3.0)], [(0.0, 1.0), (2.5, 4.0)])
    ((0.0, 1.0), (2.0, 4.0))
    """
    found: list[tuple[float, float]] = []
    for low, high in sorted(piece for pieces in sets for piece in pieces):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(found)


def moved(pieces: Pieces, scale: float, shift: float) -> Pieces:
    """Pieces under x -> shift + scale x with a positive scale."""
    return tuple((float(shift + scale * low), float(shift + scale * high)) for low, high in pieces)


def shape(pieces: Pieces) -> str:
    """ "empty", "interval", "ray", "rays", "line", "intervals" (bounded, several) or "mixed"."""
    if not pieces:
        return "empty"
    infinite = [sum(math.isinf(end) for end in piece) for piece in pieces]
    if len(pieces) == 1:
        return ("interval", "ray", "line")[infinite[0]]
    if sum(infinite) == 0:
        return "intervals"
    return "rays" if infinite == [1, 1] else "mixed"


def written(pieces: Pieces) -> str:
    """Pieces as text, four significant digits, infinite ends open.

    Examples
    --------
    >>> written(((float("-inf"), -2.0), (3.0, float("inf"))))
    '(-inf, -2] or [3, inf)'
    """
    return " or ".join(
        f"{'(' if math.isinf(low) else '['}{low:.4g}, {high:.4g}{')' if math.isinf(high) else ']'}"
        for low, high in pieces
    )
