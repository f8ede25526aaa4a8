"""Guards of `image_ate` before anything is fitted: leaking covariates, images that repeat, overlap or come too late."""

import numpy as np

from causalsat.checks.images import (
    identical_images_check,
    image_dates_check,
    near_duplicates_check,
    overlapping_images_check,
    single_arm_images_check,
    warn_undated,
)
from causalsat.checks.leakage import leakage_check
from causalsat.checks.result import CheckResult
from causalsat.errors import DataError, ImputedValuesWarning, warn
from causalsat.estimators.ate_design import AteDesign
from causalsat.estimators.ate_options import AteOptions
from causalsat.inference.options import Bootstrap, Sandwich
from causalsat.study.embeddings import Embeddings
from causalsat.study.groups import connected
from causalsat.study.overlap import identical_images, overlapping_footprints


def guard_columns(design: AteDesign, options: AteOptions) -> CheckResult | None:
    """Refuse covariates that carry the treatment; tell of imputed ones.

    Raises
    ------
    TreatmentLeakError
        A covariate equals the treatment, is affine to it, separates the arms, or is another covariate times it.
    DataError
        A constant outcome.
    """
    if np.ptp(design.y) == 0:
        raise DataError("The outcome is constant on the rows in use; there is no effect to estimate.")
    if design.tabular is None:
        return None
    for arm in design.arms:
        if arm.reason:
            continue
        columns = {name: design.tabular[arm.rows, j] for j, name in enumerate(design.tabular_names)}
        leakage_check(arm.d, columns, treatment=arm.name, allow=options.allow)
    missing = {n: int(c) for n, c in zip(design.tabular_names, np.isnan(design.tabular).sum(axis=0), strict=True) if c}
    if missing:
        listed = ", ".join(f"{name} ({n})" for name, n in missing.items())
        warn(
            f"missing covariate values are imputed by the mean of the training folds, with an indicator: {listed}.",
            ImputedValuesWarning,
        )
    names = ", ".join(design.tabular_names)
    return CheckResult("leakage", True, 0.0, f"No covariate carries the treatment ({names}).")


def guard_images(design: AteDesign, options: AteOptions) -> list[CheckResult]:
    """Diagnostics of the images themselves; empty when the study has none."""
    study = design.study
    if study.embeddings is None or study.image is None:
        return []
    images, ids = study.embeddings, study.embeddings.ids
    checks = _shared_ground(design, images, study.image)
    checks.append(near_duplicates_check("images", ids, images.matrix, images.chip_sha256))
    for arm in design.arms:
        if not arm.reason:
            checks.append(
                single_arm_images_check(
                    arm.name, study.image[arm.rows], arm.d, independent_rows=_independent_rows(options)
                )
            )
    return checks + _dates(design, options.allow_post_treatment)


def _shared_ground(design: AteDesign, images: Embeddings, image: np.ndarray) -> list[CheckResult]:
    checks: list[CheckResult] = []
    first = design.arms[0]
    if images.chip_sha256 is not None:
        whole = len(design.arms) == 1
        rows = (image[first.rows], first.d) if whole else (None, None)
        label = first.name if whole else "images"
        checks.append(identical_images_check(label, images.ids, images.chip_sha256, *rows))
    if images.footprint is not None:
        pairs = overlapping_footprints(images)
        component = connected(len(images), pairs, identical_images(images))
        checks.append(overlapping_images_check("images", images.ids, pairs, component))
    return checks


def _independent_rows(options: AteOptions) -> bool:
    inference = options.inference
    if isinstance(inference, Bootstrap):
        return inference.scheme == "iid"
    return isinstance(inference, Sandwich) and inference.kind in ("classical", "hc0", "hc1", "hc3")


def _dates(design: AteDesign, allow_post_treatment: bool) -> list[CheckResult]:
    study = design.study
    treated_on = study.dates.get("treatment_date")
    if treated_on is None or study.embeddings is None:
        return []
    taken = study.embeddings.image_date
    if taken is None or np.isnat(taken).all():
        warn_undated("this study")
        return []
    keys = study.embeddings.ids[study.image]
    allowed = allow_post_treatment
    return [image_dates_check("images", taken[study.image], treated_on, allow_post_treatment=allowed, keys=keys)]
