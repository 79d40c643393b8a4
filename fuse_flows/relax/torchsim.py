"""Models of torch-sim as tiers: which there are, their keywords, and what is checked before a search is submitted.

torch-sim (https://github.com/TorchSim/torch-sim, MIT) wraps machine-learned potentials so that they compute many
crystals at once. Nothing heavy is imported here; the models are in :mod:`fuse_flows.relax.torchsim_model`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fuse_flows.errors import ConfigError, first_refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_flows.config import SearchConfig, TierConfig

TORCHSIM = "torchsim"
FIELD = "tiers.calculator_kwargs"


class Source(NamedTuple):
    """Where a model comes from.

    Parameters
    ----------
    path
        Class of torch-sim, ``package.module:Class``.
    dtype
        Precision unless the user names one; None: that of the class.
    module, package
        What else is imported, and what is installed for it; empty where torch-sim alone suffices.
    """

    path: str
    dtype: str | None = None
    module: str = ""
    package: str = ""


SOURCES = {
    "mace": Source("torch_sim.models.mace:MaceModel", "float64", "mace", "mace-torch"),
    "orb": Source("torch_sim.models.orb:OrbModel", "float32", "orb_models", "orb-models"),
    "sevennet": Source("torch_sim.models.sevennet:SevenNetModel", "float32", "sevenn", "sevenn"),
    "mattersim": Source("torch_sim.models.mattersim:MatterSimModel", "float32", "mattersim", "mattersim"),
    "lennard_jones": Source("torch_sim.models.lennard_jones:LennardJonesModel", "float64"),
    "morse": Source("torch_sim.models.morse:MorseModel", "float64"),
    "soft_sphere": Source("torch_sim.models.soft_sphere:SoftSphereModel", "float64"),
}
"""Models by the names that torch-sim has for their modules."""


class TorchSimOptions(BaseModel):
    """Keywords of calculator ``torchsim``; all others are those of the model's class in torch-sim."""

    model_config = ConfigDict(frozen=True, extra="allow")

    model: str = Field(description="One of SOURCES, or the import path of a torch-sim model ('package.module:Class').")
    weights: str | None = Field(
        None, description="Weights of a learned model: a file, or a name that its package knows and may download."
    )
    device: str = Field("cpu", description="cpu, cuda, cuda:N or mps.")
    dtype: Literal["float32", "float64"] | None = Field(
        None, description="Precision; None: float64 for MACE and pair potentials, else what the model has in torch-sim."
    )
    digest: str | None = Field(None, description="Hash of the file of weights; filled in on submission.")

    @field_validator("model")
    @classmethod
    def _model_is_known(cls, model: str) -> str:
        if model not in SOURCES and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", model):
            msg = f"{model!r} is unknown; use one of {', '.join(SOURCES)}, or a path such as package.module:Class"
            raise ValueError(msg)
        return model

    @field_validator("device")
    @classmethod
    def _device_is_spelt_right(cls, device: str) -> str:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
            msg = f"{device!r} is none; use cpu, cuda, cuda:N or mps"
            raise ValueError(msg)
        return device

    @property
    def source(self) -> Source:
        """Where the model comes from."""
        return SOURCES.get(self.model, Source(self.model))

    @property
    def keywords(self) -> dict[str, Any]:
        """The keywords of the class."""
        return dict(self.model_extra or {})


def torchsim_options(kwargs: dict[str, Any]) -> TorchSimOptions:
    """Return the keywords of a tier, checked as far as can be without torch.

    Parameters
    ----------
    kwargs
        Keywords of the calculator.

    Returns
    -------
    TorchSimOptions
        Checked.

    Raises
    ------
    ConfigError
        Naming the first keyword that is wrong.
    """
    try:
        return TorchSimOptions.model_validate(kwargs)
    except ValidationError as error:
        refusal = first_refusal(error)
        message = refusal.message
        if refusal.kind == "missing":
            message = f"is missing; use one of {', '.join(SOURCES)}, or a path such as package.module:Class"
        raise ConfigError(refusal.field(FIELD), message) from None


def check_torchsim(tier: TierConfig, elements: Iterable[str]) -> None:
    """Check a tier before anything is submitted, by making its model.

    Parameters
    ----------
    tier
        Its calculator is ``torchsim``.
    elements
        Symbols of the elements of the search.

    Raises
    ------
    ConfigError
        If a keyword is wrong, or, unless ``FUSE_FLOWS_TORCHSIM_ELSEWHERE`` is set, the package of the model, its
        weights or the device is not to be had here, or the model lacks an element or gives no stress for the cell.
    MissingExtraError
        If torch-sim is not installed.
    """
    from fuse_flows.settings import settings

    options = torchsim_options(tier.calculator_kwargs)
    if settings().torchsim_elsewhere:
        return
    from pymatgen.core import Element

    from fuse_flows.relax.calculators import make_calculator

    calculator = make_calculator(tier)
    if tier.relax_cell and not calculator.model.compute_stress:
        raise ConfigError("tiers.relax_cell", f"{options.model} gives no stress; set it to false")
    known = calculator.species
    missing = sorted(el for el in set(elements) if known is not None and Element(el).Z not in known)
    if missing:
        name = options.model if options.weights is None else f"{options.model} {options.weights}"
        msg = f"{name} has no parameters for {', '.join(missing)}; choose another model"
        raise ConfigError(f"{FIELD}.model", msg)


def with_weights_digests(config: SearchConfig) -> SearchConfig:
    """Return a configuration whose search is named by what is in files of weights, not by where they are.

    Parameters
    ----------
    config
        The search.

    Returns
    -------
    SearchConfig
        With ``digest`` beside each ``weights`` of a tier ``torchsim`` that is a file.
    """
    return config.with_each_tier(_with_digest)


def weights_digest(file: Path) -> str:
    """Return a hash of the content of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _with_digest(tier: TierConfig) -> TierConfig:
    if tier.calculator.lower() != TORCHSIM:
        return tier
    weights = torchsim_options(tier.calculator_kwargs).weights
    file = Path(weights or "").expanduser()
    if weights is None or not file.is_file():
        return tier
    found = {"weights": str(file.resolve()), "digest": weights_digest(file)}
    return tier.model_copy(update={"calculator_kwargs": tier.calculator_kwargs | found})
