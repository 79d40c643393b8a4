"""What a VASP tier may be told: its stages, POTCARs and limits, all of them data in the configuration."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fuse_flows.errors import ConfigError, first_refusal
from fuse_flows.relax.staged import with_options

if TYPE_CHECKING:
    from fuse_flows.config import SearchConfig, TierConfig

VASP = "vasp"
"""Name of the calculator."""

_FIELD = "tiers.calculator_kwargs"
_KBAR_PER_GPA = 10.0

#: Keys of all stages of the paper; ENCUT comes from the POTCARs.
COMMON: dict[str, Any] = {
    "ISIF": 3,
    "NELM": 50,
    "NWRITE": 1,
    "GGA": "PE",
    "KGAMMA": True,
    "LWAVE": False,
    "LCHARG": False,
}

_FAST: dict[str, Any] = {
    "PREC": "Fast",
    "ALGO": "Fast",
    "LREAL": "Auto",
    "EDIFF": 1e-4,
    "EDIFFG": 0.05,
    "IBRION": 2,
    "KSPACING": 0.5,
}
_FINE: dict[str, Any] = {
    "PREC": "Normal",
    "LREAL": False,
    "ISMEAR": 0,
    "EDIFF": 1e-5,
    "EDIFFG": -0.03,
    "IBRION": 1,
    "KSPACING": 0.3,
}

#: The five stages, 220 steps in all, of the calculations on Ca3Ti2O7 in the FUSE2 paper, 10.1039/d4fd00094c.
PAPER_STAGES: tuple[dict[str, Any], ...] = (
    _FAST | {"NSW": 100},
    _FAST | {"NSW": 50},
    _FINE | {"NSW": 10},
    _FINE | {"NSW": 10},
    _FINE | {"NSW": 50},
)


#: Tags of VASP (its wiki, release 6.5) that pymatgen's list of INCAR tags lacks.
_NEWER_TAGS = re.compile(r"BPARAM|IVDW_NL|KERNEL_TRUNCATION/\w+|LIBXC[12](_P\d+)?|LTBOUNDLIBXC|NCSHMEM")
#: Tags that hold a value for each element; a list for each atom would fit one number of atoms only.
_OF_ELEMENTS = ("MAGMOM", "LDAUU", "LDAUJ", "LDAUL")


class VaspOptions(BaseModel):
    """Keywords of a VASP tier (``calculator_kwargs``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stages: tuple[dict[str, Any], ...] = Field(
        PAPER_STAGES, min_length=1, description="INCAR of each stage; None removes a key of `incar`."
    )
    incar: dict[str, Any] = Field(
        default_factory=lambda: dict(COMMON), description="INCAR of all stages; the stages' own keys win."
    )
    potcars: dict[str, str] = Field(
        default_factory=dict, description="POTCAR of an element, such as {Ca: Ca_pv}; default: atomate2's choice."
    )
    functional: str = Field("PBE_54", description="Set of POTCARs, by pymatgen's name.")
    encut_factor: float = Field(1.3, gt=0, description="ENCUT over the largest ENMAX, where no ENCUT is given.")
    force_limit: float = Field(
        0.5,
        ge=0,
        description="A relaxation that used up its steps is accepted if no force exceeds this, eV/A; 0: never.",
    )
    frozen_seconds: float = Field(21600.0, gt=0, description="Output that has not grown for so long is frozen.")
    max_errors: int | None = Field(
        None, ge=1, description="Corrections by custodian in one stage; None: atomate2's VASP_CUSTODIAN_MAX_ERRORS."
    )
    keep_steps: bool = Field(
        False, description="Keep all ionic steps in the TaskDoc; otherwise the last one of each stage."
    )

    def incar_of(self, stage: int) -> dict[str, Any]:
        """Return the INCAR of a stage (from 0), without what the structure and the POTCARs decide.

        The GGA of the common keys gives way to a METAGGA, beside which VASP must not find one.
        """
        merged = self.incar | self.stages[stage]
        if is_metagga(merged) and merged.get("GGA") == COMMON["GGA"]:
            del merged["GGA"]
        return {key: value for key, value in merged.items() if value is not None}


def is_metagga(incar: dict[str, Any]) -> bool:
    """Tell whether an INCAR asks for a meta-GGA."""
    return str(incar.get("METAGGA") or "--").upper() not in {"--", "NONE"}


def parse_options(tier: TierConfig) -> VaspOptions:
    """Read the keywords of a VASP tier.

    Parameters
    ----------
    tier
        The tier. ``incar`` is put over the common keys of the paper's stages; ``relax_cell: false`` sets ISIF to 2,
        ``max_steps: 0`` asks for a single point with the settings of the last stage, and ``pressure`` sets PSTRESS.

    Returns
    -------
    VaspOptions
        Checked, but for what only VASP's own files tell.

    Raises
    ------
    ConfigError
        Naming the keyword and the fix.
    """
    kwargs = dict(tier.calculator_kwargs)
    if isinstance(kwargs.get("incar", {}), dict):
        kwargs["incar"] = COMMON | _upper(kwargs.get("incar", {}))
    if isinstance(kwargs.get("stages"), list | tuple):
        kwargs["stages"] = [_upper(stage) if isinstance(stage, dict) else stage for stage in kwargs["stages"]]
    try:
        options = VaspOptions.model_validate(kwargs)
    except ValidationError as error:
        refusal = first_refusal(error)
        message = f"{refusal.message} (got {refusal.given!r})"
        if refusal.kind == "extra_forbidden":
            message = f"vasp does not know it; use {', '.join(VaspOptions.model_fields)}"
        raise ConfigError(refusal.field(_FIELD), message) from None
    for number in range(len(options.stages)):
        _check_stage(options.incar_of(number), f"{_FIELD}.stages.{number}")
    return _adapted(options, tier)


def with_vasp_defaults(search: SearchConfig) -> SearchConfig:
    """Write the options of VASP tiers out, so that the stages stand in the configuration and in the search's identity.

    Parameters
    ----------
    search
        A configuration.

    Returns
    -------
    SearchConfig
        With the complete ``calculator_kwargs`` of VASP tiers.

    Raises
    ------
    ConfigError
        Naming a keyword that is refused.
    """

    def written(tier: TierConfig) -> dict[str, Any]:
        bare = tier.model_copy(update={"relax_cell": True, "max_steps": 1, "pressure": None})
        return parse_options(bare).model_dump(mode="json")

    return with_options(search, VASP, written)


def check_common_keys(options: VaspOptions) -> None:
    """Refuse keys of ``incar`` that count in no stage, or, with the stages of the paper, not in all of them.

    The stages' own keys win, so such a key would be dropped without a word.

    Parameters
    ----------
    options
        Options of a tier that relaxes, as :func:`parse_options` returns them.

    Raises
    ------
    ConfigError
        Naming the key, the stages and the fix.
    """
    stages, fixed = options.stages, {"ISIF", "PSTRESS"}  # what the fields of the tier write into all stages
    are_papers = [{key: stage[key] for key in stage if key not in fixed} for stage in stages] == list(PAPER_STAGES)
    for key in sorted(set(options.incar) - fixed):
        value = options.incar[key]
        if key in COMMON and value == COMMON[key]:
            continue
        others = [number for number, stage in enumerate(stages, start=1) if stage.get(key, value) != value]
        if others and (are_papers or len(others) == len(stages)):
            names = ", ".join(map(str, others))
            has = f"stage {names} has its" if len(others) == 1 else f"stages {names} have their"
            msg = (
                f"{has} own {key}, which wins; write {key} into calculator_kwargs.stages "
                "('fuse-flows config show' without this key prints them)"
            )
            raise ConfigError(f"{_FIELD}.incar.{key}", msg)


def _adapted(options: VaspOptions, tier: TierConfig) -> VaspOptions:
    """Let the fields of the tier that mean something to VASP count."""
    stages = options.stages
    if tier.max_steps == 0:
        stages = (stages[-1] | {"NSW": 0, "IBRION": -1},)
    if not tier.relax_cell:
        stages = tuple(stage | {"ISIF": 2} for stage in stages)
    if tier.gigapascals:
        stages = tuple(stage | {"PSTRESS": _KBAR_PER_GPA * tier.gigapascals} for stage in stages)
    return options.model_copy(update={"stages": stages})


def _upper(keys: dict[str, Any]) -> dict[str, Any]:
    return {str(key).upper(): value for key, value in keys.items()}


def _check_stage(incar: dict[str, Any], field: str) -> None:
    """Refuse keys that VASP would silently ignore, and stages that cannot be run."""
    from pymatgen.io.vasp.inputs import Incar

    unknown = [key for key in incar if key not in Incar.INCAR_PARAMS and not _NEWER_TAGS.fullmatch(key)]
    if unknown:
        raise ConfigError(field, f"VASP does not know {', '.join(unknown)}; mend the spelling of the INCAR tag")
    if "PSTRESS" in incar:
        msg = "would leave the search to compare energies; remove it, and give the field pressure of the tier, in GPa"
        raise ConfigError(f"{field}.PSTRESS", msg)
    for key in _OF_ELEMENTS:
        if not isinstance(incar.get(key, {}), dict):
            raise ConfigError(f"{field}.{key}", f"{incar[key]!r} is no table of elements; write it like {{Fe: 4}}")
    if incar.get("LDAU") and not incar.get("LDAUU"):
        raise ConfigError(f"{field}.LDAUU", "is missing, but LDAU is on; give U values, such as {Fe: 4}")
    if is_metagga(incar) and "GGA" in incar:
        raise ConfigError(f"{field}.GGA", f"{incar['GGA']} and METAGGA {incar['METAGGA']} exclude each other")
    steps, spacing = incar.get("NSW", 0), incar.get("KSPACING")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
        raise ConfigError(f"{field}.NSW", f"{steps!r} is no number of steps; give a whole number")
    if not isinstance(spacing, float | int) or spacing <= 0:
        raise ConfigError(f"{field}.KSPACING", f"{spacing!r} gives no k-points; give a spacing in 1/A such as 0.3")
