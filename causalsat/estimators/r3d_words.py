"""What `r3d` says in words: estimand, assumptions, titles."""

from typing import Any

from causalsat.estimators.r3d_options import R3dChoices
from causalsat.estimators.r3d_units import POOLED

SHARP = (
    "continuity: expected potential quantile functions are continuous at the cutoff at every level",
    "no sorting: units do not choose their side of the cutoff; the running variable has a positive density there",
    "units (clusters) are independent, and the sampling error inside units is small beside the variation between them",
    "average quantile functions are strictly increasing near the cutoff (no common atoms: zero light, saturation)",
)
FUZZY = (
    "first stage: the treatment jumps at the cutoff, and its expectation is continuous otherwise",
    "monotonicity and exclusion: crossing the cutoff moves no unit away from treatment and acts through it alone",
)
BORDER = (
    "a border is a compound discontinuity: other laws change there too, effects vary along it, and neighbours are "
    "dependent",
)


def assumptions(design: Any) -> list[str]:
    """What the rows rest on."""
    words = list(SHARP)
    if design.treatment is not None:
        words += FUZZY
    if design.sampling.lonlat is not None:
        words += BORDER
    return words


def estimand(design: Any, cutoff: str) -> str:
    """What the rows of one set of units estimate."""
    text = "difference, at each quantile level, of the average quantile functions of units just right and left"
    if design.treatment is not None:
        shares = ((design.treatment > 0.0) & (design.treatment < 1.0)).any()
        text += ", per unit of treated share" if shares else ", per unit of treatment taken up at the cutoff"
    if design.names.get("unit_weights"):
        text += f"; units weigh by {design.names['unit_weights']}, so it is the effect of the average weighted unit"
    if len(design.parts) > 1 and cutoff == POOLED:
        text += f"; pooled over {design.split}s with weights proportional to the density of units at each of them"
    return text


def units_shown(found: Any) -> str:
    """Which units a figure or a finding is about, where there are several cutoffs or segments; empty elsewhere."""
    design = found.design
    if len(design.parts) < 2:
        return ""
    if found.cutoff == POOLED:
        return f"pooled over {len(design.parts)} {design.split}s"
    return f"{design.split} {found.cutoff}"


def heading(found: Any, choices: R3dChoices) -> str:
    """Title of a figure: estimand, units, bandwidth, effective units, level."""
    h = found.h.mean(axis=1) if found.h.ndim == 2 else found.h
    width = f"{h[0]:.4g}" if h[0] == h[1] else f"{h[1]:.4g} left, {h[0]:.4g} right"
    size = found.inference.n_effective
    kind = "LAQTE per unit of treatment" if found.design.treatment is not None else "LAQTE"
    scope = units_shown(found)
    kind = f"{kind}, {scope}" if scope else kind
    return f"{kind}, h = {width}, effective units {size[1]:.0f} left, {size[0]:.0f} right, {choices.level:.0%}"
