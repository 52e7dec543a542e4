"""A value that is made when it is first needed, and only once."""

from collections.abc import Callable
from typing import Any


class Once:
    """Calls a function on first use and caches its result, or its exception, for later calls."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._result: Any = None
        self._error: BaseException | None = None
        self._called = False

    def __call__(self) -> Any:
        if not self._called:
            self._called = True
            try:
                self._result = self._make()
            except (Exception, SystemExit) as error:
                self._error = error
        if self._error is not None:
            raise self._error
        return self._result
