"""TensorFlow with legacy Keras, and MEGNet's layers: the one place that imports them."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from typing import TYPE_CHECKING

from fuse_flows.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

# megnet is written for Keras 2; the variables are read when TensorFlow is imported
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep off the terminal what TensorFlow's C++ writes to standard error before it reads its settings."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a file of the system
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


try:
    with _silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf
        from megnet.layers import MEGNetLayer, Set2Set
except ImportError as error:
    raise MissingExtraError((error.name or "tensorflow").split(".")[0], "gn") from error

_THREADS = os.environ.get("OMP_NUM_THREADS", "")
if _THREADS.isdigit():
    with contextlib.suppress(RuntimeError):  # TensorFlow is already at work: it keeps what it has
        tf.config.threading.set_intra_op_parallelism_threads(int(_THREADS))
        tf.config.threading.set_inter_op_parallelism_threads(1)

__all__ = ["MEGNetLayer", "Set2Set", "tf"]
