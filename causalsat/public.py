"""The one place that gives public classes their public module name."""

from typing import TypeVar

T = TypeVar("T", bound=type)


def public(cls: T) -> T:
    """Make ``cls`` report ``causalsat`` as its module, so that its name survives a move of its file.

    R's S3 dispatch, pickles and ``repr`` all read ``__module__``; the class must be listed in
    ``causalsat.__all__``, which a test checks.
    """
    cls.__module__ = "causalsat"
    return cls
