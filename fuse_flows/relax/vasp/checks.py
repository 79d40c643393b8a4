"""Whether VASP can be run here, as far as this can be told without running it."""

from __future__ import annotations

import shlex
import shutil
from os.path import expandvars
from pathlib import Path
from typing import TYPE_CHECKING

from fuse_flows.errors import ConfigError
from fuse_flows.relax.vasp.options import VaspOptions, check_common_keys, parse_options
from fuse_flows.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fuse_flows.config import TierConfig

_FIELD = "tiers.calculator"
_ELSEWHERE = "on a machine that only submits, set FUSE_FLOWS_VASP_ELSEWHERE=true"
#: Programs that start what follows on their command line in the same environment (not a container, not a shell).
_LAUNCHERS = frozenset({"aprun", "env", "ibrun", "jsrun", "mpiexec", "mpiexec.hydra", "mpirun", "numactl", "srun"})
#: Programs that do not: what VASP is called within them is not to be found here.
_WRAPPERS = frozenset(
    {"apptainer", "bash", "charliecloud", "docker", "podman", "podman-hpc", "sh", "shifter", "singularity"}
)


def check_vasp(tier: TierConfig, elements: Iterable[str]) -> None:
    """Check a VASP tier before anything is submitted.

    Parameters
    ----------
    tier
        Its ``calculator_kwargs`` are checked.
    elements
        Symbols of the elements of the search.

    Raises
    ------
    ConfigError
        If a keyword or a key of a stage is unknown, or, unless ``FUSE_FLOWS_VASP_ELSEWHERE`` is set, this machine
        has no command for VASP or lacks the POTCAR of an element.
    """
    options = parse_options(tier)
    if tier.max_steps:
        check_common_keys(options)
    if not settings().vasp_elsewhere:
        require_vasp(options, elements)


def require_vasp(options: VaspOptions, elements: Iterable[str]) -> None:
    """Raise unless this machine has a command for VASP and POTCARs for some elements.

    Parameters
    ----------
    options
        The options of the tier.
    elements
        Symbols.

    Raises
    ------
    ConfigError
        Naming what is missing.
    """
    find_command()
    _require_folder()
    for element in elements:
        _require_potcar(element, options)


def vasp_state() -> str:
    """Say whether VASP can be run here: ``available``, or what is missing."""
    try:
        require_vasp(VaspOptions(), ())
    except ConfigError as error:
        return str(error)
    return "available"


def find_command() -> list[str]:
    """Find the command that starts VASP, which atomate2 is told by ``VASP_CMD``.

    Returns
    -------
    list of str
        The command with its arguments.

    Raises
    ------
    ConfigError
        If its first word, or VASP behind a launcher such as ``srun``, is no program of this machine.
    """
    from atomate2 import SETTINGS

    command = shlex.split(expandvars(SETTINGS.VASP_CMD))
    missing = [program for program in _programs(command) if shutil.which(program) is None]
    if not command or missing:
        program = missing[0] if missing else "nothing"
        msg = (
            f"vasp is started by atomate2's VASP_CMD ({SETTINGS.VASP_CMD!r}), and {program!r} is no program here; set "
            f"VASP_CMD in ~/.atomate2.yaml or ATOMATE2_VASP_CMD; {_ELSEWHERE}"
        )
        raise ConfigError(_FIELD, msg)
    return command


def _programs(command: list[str]) -> list[str]:
    """Return the words of a command that must be programs: the first one, and VASP's behind a launcher."""
    named = [word for word in command[1:] if "vasp" in Path(word).name.lower() and not word.startswith("-")]
    is_seen = bool(command) and Path(command[0]).name in _LAUNCHERS and not _WRAPPERS & {Path(w).name for w in command}
    return command[:1] + (named[-1:] if is_seen else [])


def _require_folder() -> None:
    from pymatgen.core import SETTINGS

    folder = SETTINGS.get("PMG_VASP_PSP_DIR")
    if not folder or not Path(folder).is_dir():
        given = f" ({folder} is none)" if folder else ""
        msg = (
            f"vasp needs pymatgen's PMG_VASP_PSP_DIR, the folder of POTCARs{given}; set it in ~/.config/.pmgrc.yaml or "
            f"the environment; {_ELSEWHERE}"
        )
        raise ConfigError(_FIELD, msg)


def _require_potcar(element: str, options: VaspOptions) -> None:
    from pymatgen.io.vasp.inputs import PotcarSingle

    from fuse_flows.relax.vasp.inputs import potcar_symbols

    symbol = options.potcars.get(element) or potcar_symbols().get(element)
    if symbol is None:
        msg = f"atomate2 has no choice of POTCAR for {element}; name one in calculator_kwargs.potcars"
        raise ConfigError("tiers.calculator_kwargs.potcars", msg)
    try:
        PotcarSingle.from_symbol_and_functional(symbol, options.functional)
    except (OSError, ValueError, KeyError) as error:
        msg = (
            f"no POTCAR {symbol} of {element} in set {options.functional} under PMG_VASP_PSP_DIR; add it, or name "
            f"another one in calculator_kwargs.potcars; {_ELSEWHERE}"
        )
        raise ConfigError("tiers.calculator_kwargs.potcars", msg) from error
