from __future__ import annotations

import os
import subprocess
import sys

from fuse_flows.potentials import compiling


def test_without_any_folder_for_the_cache_functions_still_compile(monkeypatch):
    real = compiling.njit

    def njit(*, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(compiling, "njit", njit)
    double = compiling.compiled(fast=True)(lambda x: 2 * x)
    assert double(3.0) == 6.0


def test_a_cache_folder_that_cannot_be_made_does_no_harm(tmp_path):
    (tmp_path / "file").write_text("")
    code = "from fuse_flows.potentials.kernels import determinant; import numpy; print(determinant(2 * numpy.eye(3)))"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "file" / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "8.0", done.stderr
