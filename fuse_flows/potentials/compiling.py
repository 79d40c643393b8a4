"""Compilation with numba, with a cache on disk where one can be written.

What costs time to compile, on the first call of a new installation: numpy's array expressions and assignments to slices
(2 s for the first of them), ``np.linalg``, tuples of many arrays, and deep towers of functions, because each function
is optimised again in all its callers. Plain loops over numbers cost tens of milliseconds.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numba import njit

import fuse_flows

if TYPE_CHECKING:
    from collections.abc import Callable

#: Sums may be regrouped, but NaN and infinity stay what they are: they are looked for.
FAST = {"reassoc", "contract", "arcp", "nsz"}

#: Folders that hold compiled functions.
FOLDERS = ("potentials", "relax", "generators/gn")
#: Files without compiled functions whose constants have become part of some.
CONSTANTS = ("relax/memory.py",)


def compiled(*, fast: bool = False, inner: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function of numba's subset of Python when it is first called.

    Compiled functions release the GIL. They are cached beside the source or in the user's cache folder
    (``NUMBA_CACHE_DIR`` names another one); where neither can be written they are compiled in every process. A change
    of any file with compiled functions makes new caches: numba itself sees only the file that a function stands in.

    Parameters
    ----------
    fast
        Allow the order of sums to change, for speed. The order is then the compiler's, still the same in every run.
    inner
        The function is only called by compiled functions, not from Python: it needs no wrappers, and no cache because
        it becomes part of its callers.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FAST if fast else False}
        options["no_cfunc_wrapper"] = True
        if inner:
            return njit(no_cpython_wrapper=True, **options)(function)
        try:
            tag = fingerprint(Path(fuse_flows.__file__).parent)
            function.__qualname__ += f"_{tag}"  # which is part of the name of the cache's file
            return njit(cache=True, **options)(function)
        except (RuntimeError, OSError):  # no folder for the cache, or no sources
            return njit(**options)(function)

    return decorate


def sources(package: Path) -> list[Path]:
    """Return all files that decide what compiled code does, in a fixed order.

    Parameters
    ----------
    package
        The folder of this package.
    """
    files = sorted(path for folder in FOLDERS for path in (package / folder).glob("*.py"))
    return [path for path in files if b"\n@compiled(" in path.read_bytes()] + [package / name for name in CONSTANTS]


@cache
def fingerprint(package: Path) -> str:
    """Return a short hash of the sources of all compiled functions.

    Parameters
    ----------
    package
        The folder of this package.
    """
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources(package))).hexdigest()[:10]
