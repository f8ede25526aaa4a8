"""Exposure in `image_ate`: columns of each treatment, what is refused, cells of spillover effects, `meta`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from causalsat.errors import DataError, OptionError
from causalsat.estimators.ate_design import Arms, Cell
from causalsat.estimators.ate_options import DIFFERENCE, AteOptions
from causalsat.estimators.ate_spillover import Joint
from causalsat.inference.options import Bootstrap
from causalsat.study.exposure import EFFECTS, Exposure, neighbour_exposure
from causalsat.study.open import Study

NO_INTERFERENCE = "no interference between rows"


def exposed_arms(arms: Sequence[Arms], study: Study, exposure: Exposure | None) -> tuple[Arms, ...]:
    """Arms with their exposure columns: neighbours' treatment, counted among all rows in use.

    Raises
    ------
    DataError
        No coordinates, or a lag without ``time``.
    """
    if exposure is None:
        return tuple(arms)
    if study.lonlat is None:
        raise DataError("exposure measures distances: give coords=(longitude, latitude) or a GeoDataFrame.")
    period = study.codes.get("time")
    if exposure.lag and period is None:
        raise DataError(f"Exposure(lag={exposure.lag}) looks back in time: name the column of periods with time=.")
    given = study.numeric.get("exposure")
    found = []
    for j, arm in enumerate(arms):
        source = study.numeric["treatment"][:, j] if given is None else given
        columns = neighbour_exposure(
            study.lonlat, source, exposure.rings_km, measure=exposure.measure, period=period, lag=exposure.lag
        )[arm.rows]
        label = arm.name if exposure.source is None else exposure.source
        found.append(replace(arm, exposure=columns, exposure_names=exposure.names(label)))
    return tuple(found)


def assumptions_with(exposure: Exposure | None, assumptions: Sequence[str]) -> list[str]:
    """The assumptions in words, with the interference that the exposure allows for."""
    if exposure is None:
        return list(assumptions)
    reach = f"no interference beyond the exposure declared within {exposure.rings_km[-1]:g} km"
    return [reach if text == NO_INTERFERENCE else text for text in assumptions]


def exposure_meta(
    exposure: Exposure | None, joints: Mapping[tuple[int, str], Joint], names: Sequence[str]
) -> dict[str, Any]:
    """What `meta` says of the exposure; adjusting for exposure of the same period changes the estimand and says so."""
    if exposure is None:
        return {}
    told: dict[str, Any] = {
        "rings_km": list(exposure.rings_km),
        "measure": exposure.measure,
        "lag": exposure.lag,
        "role": exposure.role,
        "source": exposure.source or "own treatment",
    }
    if exposure.role == "effect":
        told["clipped"] = {f"{names[t]}/{adjust}": joint.clipped for (t, adjust), joint in joints.items()}
    elif exposure.lag == 0:
        told["estimand"] = (
            "effect at given exposure: exposure of the same period is not settled before treatment, so this is the "
            "effect of the row's own treatment while that of its neighbours is held fixed"
        )
    return {"exposure": told}


def refuse_spillovers(options: AteOptions, known_propensity: Any, supplied: Any) -> None:
    """Combinations in which the joint effects of treatment and exposure would be wrong (raises OptionError)."""
    if options.exposure is None or options.exposure.role != "effect":
        return
    why = ""
    if "aipw" not in options.methods:
        why = f'estimates doubly robust scores only; method={list(options.methods)} lacks "aipw"'
    elif known_propensity is not None or supplied:
        why = "learns the joint propensity of treatment and exposure; leave out known_propensity and nuisances"
    elif options.trim is not None:
        why = "has no trimmed target; leave out trim"
    elif isinstance(options.inference, Bootstrap) and options.inference.scheme not in ("multiplier", "dependent"):
        why = (
            "has scores with fixed nuisances; use inference=Sandwich(...), or Bootstrap(scheme="
            f'"multiplier", refit=False) instead of scheme="{options.inference.scheme}"'
        )
    if why:
        raise OptionError(f'Exposure(role="effect") {why}.')


def spillover_cells(options: AteOptions, n_treatments: int, sets: Sequence[str]) -> tuple[Cell, ...]:
    """Cells of the direct, spillover and total effects; none unless exposure is an effect."""
    if options.exposure is None or options.exposure.role != "effect":
        return ()
    return tuple(
        Cell(t, adjust, DIFFERENCE if adjust == "none" else "aipw", term)
        for t in range(n_treatments)
        for adjust in sets
        for term in EFFECTS
    )
