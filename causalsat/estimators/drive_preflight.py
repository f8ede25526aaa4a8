"""What `drive` can refuse before there are images: options, columns, instruments."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from causalsat.errors import CausalsatWarning
from causalsat.estimators.drive_design import roles_of
from causalsat.estimators.drive_guards import guard_instruments
from causalsat.estimators.drive_options import validated_choices
from causalsat.study.open import open_study


def preflight(verb: Callable[..., Any], data: Any, given: Mapping[str, Any]) -> None:
    """Check options and columns of `drive` on the table alone.

    Raises
    ------
    OptionError, DataError
        As `drive` does.
    """
    parameters = inspect.signature(verb).parameters
    a = {name: p.default for name, p in parameters.items() if p.default is not p.empty} | dict(given)
    choices = validated_choices(**a)
    guard_instruments(a["instruments"])
    a["environments"] = None if choices.folds is None else choices.folds.by
    a["fold_group"] = choices.fine.nuisance_folds.by
    roles = roles_of(**{name: a[name] for name in inspect.signature(roles_of).parameters})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalsatWarning)
        open_study(data, roles, coords=a["coords"], embedding_key=a["embedding_key"], verb="drive")
