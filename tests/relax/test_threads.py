from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fuse_flows.relax.threads import thread_environment


def test_environment():
    environment = thread_environment(2)
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["OPENBLAS_NUM_THREADS"] == "2"
    assert environment["MKL_NUM_THREADS"] == "2"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert all(isinstance(value, str) for value in environment.values())


def test_no_thread_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        thread_environment(0)


def run_clean(code):
    environment = {key: value for key, value in os.environ.items() if key not in thread_environment(1)}
    return subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)


def test_loaded_libraries_are_told():
    code = (
        "import numpy, os; from threadpoolctl import threadpool_info;"
        "from fuse_flows.relax.threads import limit_threads; limit_threads(1); import gc; gc.collect();"
        "print({pool['num_threads'] for pool in threadpool_info()}, os.environ['OMP_NUM_THREADS'])"
    )
    assert run_clean(code).stdout.split() == ["{1}", "1"]


@pytest.mark.chgnet
@pytest.mark.parametrize("order", ["import torch; limit_threads(1)", "limit_threads(1); import torch"])
def test_torch_before_and_after(order):
    code = f"from fuse_flows.relax.threads import limit_threads; {order}; print(torch.get_num_threads())"
    assert run_clean(code).stdout.split() == ["1"]
