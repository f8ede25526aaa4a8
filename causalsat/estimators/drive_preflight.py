"""What `drive` can refuse before there are images: options, columns, instruments."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from causalsat.errors import CausalsatWarning
from causalsat.estimators.drive_design import roles_of
from causalsat.estimators.drive_guards import guard_instruments
from causalsat.estimators.drive_options import DriveChoices, refuse_without_images, validated_choices
from causalsat.study.open import Role, open_study


def checked_roles(choices: DriveChoices, **given: Any) -> tuple[Role, ...]:
    """The roles of a call of `drive`, once its instruments and what it says of images are allowed.

    Parameters
    ----------
    choices : DriveChoices
        Checked options.
    **given
        Arguments of `drive`. Only whether ``embeddings`` is None counts: the column of ``nuisance_folds`` is read
        where images are given.

    Raises
    ------
    OptionError
        Instruments that are no columns, an option about images without images, more than two cluster columns.
    """
    guard_instruments(given["instruments"])
    refuse_without_images(given["embeddings"], given["embedding_key"], choices)
    derived = {
        "environments": None if choices.folds is None else choices.folds.by,
        "fold_group": None if given["embeddings"] is None else choices.fine.nuisance_folds.by,
    }
    return roles_of(**{name: (given | derived)[name] for name in inspect.signature(roles_of).parameters})


def preflight(verb: Callable[..., Any], data: Any, given: Mapping[str, Any]) -> None:
    """Check options and columns of `drive` on the table alone; ``given["embeddings"]`` stands for images to come.

    Raises
    ------
    OptionError, DataError
        As `drive` does.
    """
    parameters = inspect.signature(verb).parameters
    a = {name: p.default for name, p in parameters.items() if p.default is not p.empty} | dict(given)
    roles = checked_roles(validated_choices(**a), **a)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalsatWarning)
        open_study(data, roles, coords=a["coords"], embedding_key=a["embedding_key"], verb="drive")
