"""The one progress bar."""

import sys
from collections.abc import Callable
from typing import Any, Protocol

Progress = bool | Callable[[dict[str, Any]], None] | None


class Bar(Protocol):
    """What long work talks to."""

    def update(self, n: int = 1) -> Any: ...

    def close(self) -> Any: ...


class _Silent:
    def update(self, n: int = 1) -> None:
        return None

    def close(self) -> None:
        return None


class _Callback:
    def __init__(self, call: Callable[[dict[str, Any]], None], total: int, what: str) -> None:
        self.call, self.total, self.what, self.done = call, total, what, 0

    def update(self, n: int = 1) -> None:
        self.done += n
        self.call({"what": self.what, "done": self.done, "total": self.total})

    def close(self) -> None:
        return None


def progress_bar(total: int, what: str, progress: Progress = None) -> Bar:
    """A tqdm bar on a terminal; silent elsewhere or with ``progress=False``; events to a callable."""
    if callable(progress):
        return _Callback(progress, total, what)
    if progress is False or (progress is None and not sys.stderr.isatty()):
        return _Silent()
    from tqdm import tqdm

    bar: Bar = tqdm(total=total, desc=what, file=sys.stderr)
    return bar
