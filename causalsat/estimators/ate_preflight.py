"""What `image_ate` can refuse before there are images: options, columns, arms, leaking covariates."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from causalsat.errors import CausalsatWarning
from causalsat.estimators.ate_design import ate_design, roles_of
from causalsat.estimators.ate_guards import guard_columns
from causalsat.estimators.ate_options import validated_options
from causalsat.study.open import open_study


def preflight(verb: Callable[..., Any], data: Any, given: Mapping[str, Any]) -> None:
    """Run the door and the leakage guard of `image_ate` on the table alone.

    Warnings are left to the fit itself, which issues them with the images at hand.

    Raises
    ------
    OptionError, DataError
        As `image_ate` does.
    """
    parameters = inspect.signature(verb).parameters
    a = {name: p.default for name, p in parameters.items() if p.default is not p.empty} | dict(given)
    options = validated_options(**a)
    # Supplied nuisances belong to one fitted set, and nothing is fitted here.
    a["nuisances"] = None
    roles = roles_of(
        fold_by=None if options.folds is None else options.folds.by,
        strata=getattr(options.inference, "strata", None),
        **{name: a[name] for name in inspect.signature(roles_of).parameters if name not in ("fold_by", "strata")},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalsatWarning)
        study = open_study(data, roles, coords=a["coords"], embedding_key=a["embedding_key"], verb="image_ate")
        bare = replace(options, adjust=("none",), reference="none")
        guard_columns(ate_design(study, bare, a["known_propensity"]), bare)
