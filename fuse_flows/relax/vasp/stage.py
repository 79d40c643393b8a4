"""One stage of a staged relaxation: a run of VASP under custodian in a folder of its own, and what became of it."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fuse_flows.errors import ConfigError
from fuse_flows.relax.guards import Verdict
from fuse_flows.relax.result import Outcome, one_line
from fuse_flows.relax.vasp.handlers import WALLTIME_REACHED, stage_handlers
from fuse_flows.relax.vasp.inputs import stage_generator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from emmet.core.tasks import TaskDoc
    from pymatgen.core import Structure

    from fuse_flows.relax.vasp.options import VaspOptions

#: Errors in custodian's log that mean that the electrons did not converge.
_ELECTRONIC = frozenset({"Unconverged", "Non-converging job"})
_GPA_PER_KBAR = 0.1
_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS, errno.ENOMEM, errno.EMFILE})


@dataclass(frozen=True)
class RunSettings:
    """How runs of VASP are watched; nothing of this changes what is computed.

    Parameters
    ----------
    seconds_left
        Seconds until the job must have ended; None without a limit.
    buffer_seconds
        Seconds of these that are kept for the last ionic step.
    custodian
        Keywords of :class:`custodian.Custodian`, such as ``polling_time_step``.
    run_vasp
        Keywords of :func:`atomate2.vasp.run.run_vasp` that replace ours.
    """

    seconds_left: float | None = None
    buffer_seconds: float = 0.0
    custodian: Mapping[str, Any] | None = None
    run_vasp: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class StageEnd:
    """How a stage ended.

    Parameters
    ----------
    structure
        Last geometry that could be read; the one it began with if there is none.
    failure
        Why the relaxation cannot go on; None if it can.
    interrupted
        Whether it ended for want of time; what it has come to is then partial.
    electronic, ionic
        Whether the last self-consistency loop, and the relaxation within its steps, converged.
    energy
        Total energy without p V, eV.
    fmax, smax
        Largest norm of a force, eV/A, and largest component of the stress, counted from PSTRESS, GPa.
    steps
        Ionic steps.
    corrections
        Errors that custodian found.
    document
        atomate2's document of the run.
    """

    structure: Structure
    failure: Verdict | None = None
    interrupted: bool = False
    electronic: bool = False
    ionic: bool = False
    energy: float | None = None
    fmax: float | None = None
    smax: float | None = None
    steps: int = 0
    corrections: tuple[str, ...] = ()
    document: TaskDoc | None = None


def run_stage(
    structure: Structure,
    options: VaspOptions,
    stage: int,
    folder: Path,
    watch: RunSettings,
    *,
    max_steps: int | None = None,
) -> StageEnd:
    """Run one stage.

    Parameters
    ----------
    structure
        Where it begins; without site properties but ``magmom``.
    options
        The options of the tier.
    stage
        Number of the stage, from 0.
    folder
        A new folder for the files.
    watch
        How the run is watched.
    max_steps
        Ionic steps that are left of a stage that was interrupted.

    Returns
    -------
    StageEnd
        A failure of VASP is a value. What is wrong with the machine (no program, no POTCAR, no space) is raised.

    Raises
    ------
    ConfigError
        If VASP did not even begin, which is no fault of the structure.
    """
    from atomate2.vasp.files import write_vasp_input_set

    folder.mkdir(parents=True)
    generator = stage_generator(options, stage, max_steps=max_steps)
    write_vasp_input_set(structure, generator, directory=folder, clean_prev=False)
    error: Exception | None = None
    try:
        with _workplace(folder) as place:
            _run(place, options, watch)
    except Exception as raised:
        if of_machine(raised):
            raise
        error = raised
        _require_output(folder)
    corrections = _corrections(folder)
    interrupted = WALLTIME_REACHED in corrections
    if error is not None and not interrupted:
        geometry = _last_geometry(folder, structure)
        return StageEnd(geometry, _explain(error, corrections), corrections=corrections)
    return _parse(folder, structure, interrupted=interrupted, corrections=corrections)


def of_machine(error: Exception) -> bool:
    """Tell whether an error is of the machine (no space, no memory, no rights), not of the structure."""
    return isinstance(error, OSError) and error.errno in _MACHINE


def _require_output(folder: Path) -> None:
    """Raise ConfigError if a run left no OUTCAR, which VASP opens first: launcher, library or node is at fault."""
    if any(folder.glob("OUTCAR*")) or any(folder.glob("error.*.tar.gz")):
        return
    from atomate2 import SETTINGS

    words = ""
    for name in ("std_err.txt", "vasp.out"):
        file = folder / name
        lines = file.read_text(errors="replace").strip().splitlines() if file.is_file() else []
        words = words or (f" ({one_line(lines[-1])})" if lines else "")
    msg = f"vasp did not begin, for it left no OUTCAR in {folder}{words}; mend VASP_CMD ({SETTINGS.VASP_CMD!r})"
    raise ConfigError("tiers.calculator", msg)


def _run(place: Path, options: VaspOptions, watch: RunSettings) -> None:
    from atomate2 import SETTINGS
    from atomate2.vasp import run

    handlers = stage_handlers(options.frozen_seconds, watch.seconds_left, watch.buffer_seconds)
    settings: dict[str, Any] = {
        "vasp_cmd": SETTINGS.VASP_CMD,
        "vasp_gamma_cmd": SETTINGS.VASP_GAMMA_CMD,
        "max_errors": options.max_errors or SETTINGS.VASP_CUSTODIAN_MAX_ERRORS,
        "scratch_dir": None,  # see _workplace
        "handlers": handlers,
        "custodian_kwargs": {},
    } | dict(watch.run_vasp or {})
    custodian = {**settings["custodian_kwargs"], **(watch.custodian or {}), "directory": str(place)}
    run.run_vasp(**settings | {"custodian_kwargs": custodian})


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """Lend a copy of a folder under atomate2's CUSTODIAN_SCRATCH_DIR, if set; custodian copies the working one."""
    from atomate2 import SETTINGS

    if SETTINGS.CUSTODIAN_SCRATCH_DIR is None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fuse_vasp_", dir=SETTINGS.CUSTODIAN_SCRATCH_DIR) as name:
        shutil.copytree(folder, name, dirs_exist_ok=True)
        try:
            yield Path(name)
        finally:
            shutil.copytree(name, folder, dirs_exist_ok=True)


def _parse(folder: Path, before: Structure, *, interrupted: bool, corrections: tuple[str, ...]) -> StageEnd:
    """Read what VASP wrote, with atomate2's own parser, and pack the files as atomate2 is set to."""
    from atomate2 import SETTINGS
    from atomate2.common.files import gzip_output_folder
    from atomate2.vasp.jobs.base import _FILES_TO_ZIP, get_vasp_task_document

    try:
        document = get_vasp_task_document(folder)
        end = _numbers(document, folder)
    except Exception as error:  # noqa: BLE001 - output that cannot be read is a failure, or partial
        reason = one_line(f"output cannot be read ({type(error).__name__}: {error})")
        failure = None if interrupted else Verdict(Outcome.ENGINE_ERROR, reason)
        geometry = _last_geometry(folder, before)
        return StageEnd(geometry, failure, interrupted=interrupted, corrections=corrections)
    gzip_output_folder(directory=folder, setting=SETTINGS.VASP_ZIP_FILES, files_list=_FILES_TO_ZIP)
    return StageEnd(**end, interrupted=interrupted, corrections=corrections, document=document)


def _numbers(document: TaskDoc, folder: Path) -> dict[str, Any]:
    """Return energy, forces and flags of the last ionic step; what is not finite is an error.

    With a PSTRESS, VASP adds p V to the energies of ionic steps in vasprun.xml (and calls the sum TOTEN again), but not
    to those of the electronic steps, nor to the energy(sigma->0) of the OUTCAR, which is read then. The stress is the
    one of the crystal, to which VASP brings it: PSTRESS.
    """
    calculation = document.calcs_reversed[0]
    steps = calculation.output.ionic_steps
    last, parameters = steps[-1], calculation.input.parameters
    forces, stress = np.array(last.forces, float), np.array(last.stress, float)
    energy, pressure = float(calculation.output.energy), float(calculation.input.incar.get("PSTRESS") or 0.0)
    if pressure:
        energy = _outcar_energy(folder)
        stress = stress - pressure * np.eye(3)
    if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all()):
        raise ValueError("energy, forces or stress not finite")
    max_steps = int(parameters.get("NSW", 0))
    return {
        "structure": _bare(calculation.output.structure),
        "electronic": len(last.electronic_steps) < int(parameters["NELM"]),
        "ionic": max_steps <= 1 or len(steps) < max_steps,
        "energy": energy,
        "fmax": float(np.linalg.norm(forces, axis=1).max()),
        "smax": float(np.abs(stress).max() * _GPA_PER_KBAR),
        "steps": len(steps),
    }


def _outcar_energy(folder: Path) -> float:
    """Return the energy(sigma->0) of the last ionic step, eV, which never has p V in it."""
    from pymatgen.io.vasp.outputs import Outcar

    energy = Outcar(folder / "OUTCAR").final_energy
    if energy is None:
        raise ValueError("no energy in the OUTCAR")
    return float(energy)


def _last_geometry(folder: Path, before: Structure) -> Structure:
    """Return the geometry of the CONTCAR if there is one of the same atoms."""
    from pymatgen.core import Structure

    for path in sorted(folder.glob("CONTCAR*")):
        try:
            found = Structure.from_file(path)
        except Exception:  # noqa: BLE001, S112 - half of a file; the structure before it then counts
            continue
        if found.composition == before.composition:
            return _bare(found)
    return before


def _bare(structure: Structure) -> Structure:
    """Return a copy without the properties of its sites but magnetic moments."""
    copied = structure.copy()
    for name in set(copied.site_properties) - {"magmom"}:
        copied.remove_site_property(name)
    return copied


def _corrections(folder: Path) -> tuple[str, ...]:
    """Return the errors in custodian's log, in order."""
    path = folder / "custodian.json"
    if not path.is_file():
        return ()
    runs = json.loads(path.read_text(encoding="utf-8"))
    return tuple(
        str(error) for run in runs for correction in run["corrections"] for error in correction.get("errors", ())
    )


def _explain(error: Exception, corrections: tuple[str, ...]) -> Verdict:
    """Say why custodian gave up."""
    from custodian.custodian import CustodianError, ReturnCodeError, ValidationError

    if not isinstance(error, CustodianError):
        return Verdict(Outcome.ENGINE_ERROR, one_line(f"custodian: {type(error).__name__}: {error}"))
    if isinstance(error, ValidationError):
        return Verdict(Outcome.ENGINE_ERROR, f"VASP did not end properly ({type(error.validator).__name__})")
    if isinstance(error, ReturnCodeError) or not corrections:
        return Verdict(Outcome.ENGINE_ERROR, one_line(f"VASP failed: {error}"))
    outcome = Outcome.ELECTRONIC_FAILURE if corrections[-1] in _ELECTRONIC else Outcome.ENGINE_ERROR
    tried = ", ".join(dict.fromkeys(corrections))
    return Verdict(outcome, one_line(f"custodian gave up after {len(corrections)} corrections: {tried}"))
