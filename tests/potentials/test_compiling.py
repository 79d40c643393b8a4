from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import fuse_flows
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


def test_every_file_that_compiled_code_is_made_of_counts_for_the_cache():
    package = Path(fuse_flows.__file__).parent
    found = compiling.sources(package)
    assert {package / "relax" / "lbfgs.py", package / "potentials" / "kernels.py"} < set(found)
    assert set(found) >= {path for path in package.rglob("*.py") if "\n@compiled(" in path.read_text()}
    for path in found:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module.startswith("fuse_flows."):
                constants = [alias.name for alias in node.names if alias.name.strip("_").isupper()]
                file = package / (node.module.removeprefix("fuse_flows.").replace(".", "/") + ".py")
                assert not constants or file in found, f"{file} belongs into CONSTANTS: {constants}"


def test_the_cache_is_named_after_all_sources(tmp_path):
    for name in ("potentials/kernels.py", *compiling.CONSTANTS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("\n@compiled()\n")
    fresh = compiling.fingerprint.__wrapped__  # it remembers what it has read
    before = fresh(tmp_path)
    assert before == fresh(tmp_path)
    (tmp_path / "potentials" / "kernels.py").write_text("\n@compiled()\n1\n")
    assert fresh(tmp_path) != before
    assert compiling.fingerprint(Path(fuse_flows.__file__).parent) in compiling.compiled()(lambda x: x).__qualname__
