"""Compilation with numba, with a cache on disk where one can be written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

#: Sums may be regrouped, but NaN and infinity stay what they are: they are looked for.
FAST = {"reassoc", "contract", "arcp", "nsz"}


def compiled(*, fast: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function of numba's subset of Python when it is first called.

    Compiled functions release the GIL. They are cached beside the source or in the user's cache folder
    (``NUMBA_CACHE_DIR`` names another one); where neither can be written they are compiled in every process.

    Parameters
    ----------
    fast
        Allow the order of sums to change, for speed. The order is then the compiler's, still the same in every run.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FAST if fast else False}
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # no folder for the cache
            return njit(**options)(function)

    return decorate
