"""INCAR, POSCAR and POTCAR of a stage, by an input set of atomate2 that adds nothing of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from atomate2.vasp.sets.base import VaspInputGenerator

if TYPE_CHECKING:
    from fuse_flows.relax.vasp.options import VaspOptions


def empty_config() -> dict[str, Any]:
    """Return the base of the input set: no INCAR of its own, and atomate2's choice of POTCARs."""
    return {"INCAR": {}, "KPOINTS": {}, "POTCAR": potcar_symbols(), "POTCAR_FUNCTIONAL": "PBE_54"}


def potcar_symbols() -> dict[str, str]:
    """Return atomate2's choice of POTCAR for each element."""
    return dict(_symbols())


@cache
def _symbols() -> dict[str, str]:
    return VaspInputGenerator().config_dict["POTCAR"]


@dataclass
class StageInputGenerator(VaspInputGenerator):
    """Input set of one stage: the INCAR is what the stage says, and ENCUT follows from the POTCARs.

    Parameters
    ----------
    encut_factor
        ENCUT over the largest ENMAX of the POTCARs, unless the stage gives an ENCUT.
    """

    config_dict: dict = field(default_factory=empty_config)
    encut_factor: float = 1.3
    auto_ismear: bool = False
    auto_metal_kpoints: bool = False
    validate_magmom: bool = False
    inherit_incar: bool | list[str] = False

    @property
    def incar_updates(self) -> dict[str, Any]:
        """What the structure and its POTCARs decide; keys that the stage gives win."""
        updates: dict[str, Any] = {}
        if self.structure is not None and "ENCUT" not in self.user_incar_settings:
            updates["ENCUT"] = round(self.encut_factor * max(potcar.ENMAX for potcar in self.potcar), 2)
        if not self.user_incar_settings.get("LDAU"):
            updates["LMAXMIX"] = None  # pymatgen adds it for d electrons; it matters with Hubbard U only
        return updates


def stage_generator(options: VaspOptions, stage: int, *, max_steps: int | None = None) -> StageInputGenerator:
    """Return the input set of a stage.

    Parameters
    ----------
    options
        The options of the tier.
    stage
        Number of the stage, from 0.
    max_steps
        Ionic steps that are left of a stage that was interrupted; None for all of them.

    Returns
    -------
    StageInputGenerator
        With a KSPACING in its INCAR and so without a KPOINTS file.
    """
    incar = options.incar_of(stage)
    if max_steps is not None:
        incar["NSW"] = max(2, max_steps)  # a run of one step counts as converged, whatever its forces
    return StageInputGenerator(
        config_dict=empty_config() | {"POTCAR": potcar_symbols() | options.potcars},
        user_incar_settings=incar,
        user_potcar_functional=options.functional,
        encut_factor=options.encut_factor,
    )
