"""What `r3d` can refuse before it fits: options, columns, units, sides of the cutoff."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from causalsat.errors import CausalsatWarning
from causalsat.estimators.r3d_contributions import refuse_clusters_with_blocks
from causalsat.estimators.r3d_design import open_design
from causalsat.estimators.r3d_options import validated_choices


def preflight(verb: Callable[..., Any], data: Any, given: Mapping[str, Any]) -> None:
    """Check options and data of `r3d`.

    Raises
    ------
    OptionError, DataError
        As `r3d` does.
    """
    parameters = inspect.signature(verb).parameters
    a = {name: p.default for name, p in parameters.items() if p.default is not p.empty} | dict(given)
    choices = validated_choices(**a)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalsatWarning)
        accepted = set(inspect.signature(open_design).parameters) - {"data", "verb"}
        design = open_design(data, **{name: value for name, value in a.items() if name in accepted})
    if choices.bootstrap.scheme == "block":
        refuse_clusters_with_blocks(design)
