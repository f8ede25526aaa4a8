"""Images as controls of `drive`: outcome, treatments and instruments net of embeddings, out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalsat.inference.absorb import Factor
from causalsat.study.folds import Folds
from causalsat.study.open import Study


@dataclass(frozen=True, eq=False)
class ImageControls:
    """Columns net of the images."""

    residuals: np.ndarray
    r2: dict[str, float]


def net_of_images(
    study: Study,
    kept: np.ndarray,
    blocks: np.ndarray,
    basis: np.ndarray,
    weights: np.ndarray,
    factors: Sequence[Factor],
    *,
    names: Sequence[str],
    method: str,
    n_components: int | None,
    folds: Folds,
    seed: int,
) -> ImageControls:
    """Columns net of images, out of fold."""
    from causalsat.errors import OptionError

    raise OptionError("embeddings= is not available yet.")
