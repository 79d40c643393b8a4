"""Which failures of a job are the candidate's, and which are the machine's."""

import pytest

from fuse_flows.errors import ConfigError, JobFailedError
from fuse_flows.jobs.fizzled import is_of_machine


@pytest.mark.parametrize(
    ("details", "last_line", "expected"),
    [
        (ConfigError("tiers.calculator", "no program").to_dict(), "fuse_flows.errors.ConfigError: no program", True),
        (None, "pymongo.errors.ServerSelectionTimeoutError: localhost:27017", True),
        (None, "OSError: [Errno 28] No space left on device", True),
        (None, "it was lost", False),
        (None, "RuntimeError: an OSError was mentioned", False),
        (JobFailedError("of another kind").to_dict(), "fuse_flows.errors.JobFailedError: of another kind", False),
    ],
)
def test_failures_of_the_machine(details, last_line, expected):
    assert is_of_machine({"_details": details}, last_line) is expected
