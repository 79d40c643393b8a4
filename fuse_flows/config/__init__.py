"""What a search *is*: one frozen, versioned configuration object, from YAML, keywords or command line options."""

from __future__ import annotations

from fuse_flows.config.formula import parse_formula
from fuse_flows.config.loading import load_config, make_config, merged_values
from fuse_flows.config.pool import GenerationConfig, PoolConfig
from fuse_flows.config.search import SearchConfig
from fuse_flows.config.sections import (
    AcceptanceConfig,
    ChecksConfig,
    DuplicatesConfig,
    ExecutionConfig,
    GeneratorConfig,
    MoveName,
    MovesConfig,
    ReinforceConfig,
    StopConfig,
    SymmetryConfig,
    VolumeConfig,
    WalkersConfig,
)
from fuse_flows.config.tiers import MAX_PRESSURE, QueueConfig, TierConfig

__all__ = [
    "MAX_PRESSURE",
    "AcceptanceConfig",
    "ChecksConfig",
    "DuplicatesConfig",
    "ExecutionConfig",
    "GenerationConfig",
    "GeneratorConfig",
    "MoveName",
    "MovesConfig",
    "PoolConfig",
    "QueueConfig",
    "ReinforceConfig",
    "SearchConfig",
    "StopConfig",
    "SymmetryConfig",
    "TierConfig",
    "VolumeConfig",
    "WalkersConfig",
    "load_config",
    "make_config",
    "merged_values",
    "parse_formula",
]
