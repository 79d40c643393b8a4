"""Settings of the machine, from the environment."""

import pytest

from fuse_flows.errors import ConfigError
from fuse_flows.settings import settings


@pytest.mark.parametrize(("name", "value"), [("DB_PORT", "abc"), ("THREADS", "0"), ("VASP_ELSEWHERE", "perhaps")])
def test_a_variable_that_cannot_be_used_is_named(monkeypatch, name, value):
    monkeypatch.setenv(f"FUSE_FLOWS_{name}", value)
    settings.cache_clear()
    with pytest.raises(ConfigError, match=f"^FUSE_FLOWS_{name}: .*{value}.*correct this environment variable"):
        settings()
