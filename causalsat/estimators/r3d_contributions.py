"""What every cluster contributes to the error of a limit: weights times residuals, corrected for leverage."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Contributions:
    """Rows are clusters (units without clusters) with weight in a window, in order of first appearance.

    Attributes
    ----------
    plus, minus : np.ndarray
        (g, K) contributions to the limits from the right and from the left.
    treatment : np.ndarray or None
        (g,) contributions to the jump of the treatment.
    cluster : np.ndarray
        (n,) row of every unit here, -1 outside the windows.
    """

    plus: np.ndarray
    minus: np.ndarray
    treatment: np.ndarray | None
    cluster: np.ndarray
