"""Calculators of ASE that start programs: a folder of its own for each process, and whether the program is there."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import socket
from typing import TYPE_CHECKING, Any

from fuse_flows.errors import ConfigError
from fuse_flows.relax.descent import BASIS_NOISE, NOISE

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIELD = "tiers.calculator"
#: Calculators of ASE whose basis is plane waves up to a fixed energy.
_PLANE_WAVES = frozenset({"Abinit", "Castep", "Espresso", "GPAW", "Vasp"})
#: What only a shell understands: it may change folders or load modules, and nothing can be said about its programs.
_SHELL = re.compile(r"[;&|`$()]")
_BUILTIN = frozenset({".", "cd", "exec", "export", "module", "source", "time", "ulimit"})


def with_own_folder(kind: type, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return keywords under which two processes in one working directory do not write over each other's files.

    Calculators that speak to a program by files give these the same names always. Read by another process, they would
    silently lend one structure the energy of another.

    Parameters
    ----------
    kind
        Class of the calculator.
    kwargs
        Its keywords; a ``directory`` in them is left alone.

    Returns
    -------
    dict
        With a ``directory``, relative to the working directory, where the calculator works with files.
    """
    from ase.calculators.calculator import FileIOCalculator
    from ase.calculators.genericfileio import GenericFileIOCalculator

    names = inspect.signature(kind).parameters
    files = issubclass(kind, FileIOCalculator | GenericFileIOCalculator) or "directory" in names or "command" in names
    if not files or "directory" in kwargs or "label" in kwargs:
        return dict(kwargs)
    host = socket.gethostname().split(".", maxsplit=1)[0]
    return {**kwargs, "directory": f"{kind.__name__.lower()}_{host}_{os.getpid()}"}


def noise_of(calculator: Any) -> float:
    """Return how far energies per atom may contradict forces and stress, eV; see :mod:`fuse_flows.relax.descent`.

    Parameters
    ----------
    calculator
        A calculator of ASE.
    """
    names = {kind.__name__ for kind in type(calculator).__mro__}
    return BASIS_NOISE if names & _PLANE_WAVES else NOISE


def require_program(calculator: Any, name: str) -> None:
    """Raise unless the program behind a calculator is on this machine; for what starts none, nothing is checked.

    Parameters
    ----------
    calculator
        The calculator.
    name
        What the tier calls it.

    Raises
    ------
    ConfigError
        Naming the program: no fault of a structure.
    """
    command = _command_of(calculator)
    if not isinstance(command, str) or _SHELL.search(command):
        return
    words = [word for word in shlex.split(command) if "=" not in word]
    if words and words[0] not in _BUILTIN and shutil.which(words[0]) is None:
        msg = (
            f"{name} is started by {command!r}, and {words[0]!r} is no program here; install it, or mend its section "
            "in ASE's configuration file (ASE_CONFIG_PATH)"
        )
        raise ConfigError(_FIELD, msg)


def _command_of(calculator: Any) -> Any:
    """Return the command of a calculator, wherever it keeps it; None if it tells none."""
    if hasattr(calculator, "get_lammps_command"):
        return calculator.get_lammps_command()
    owners = (getattr(calculator, "profile", None), calculator)
    found = (getattr(owner, name, None) for owner in owners for name in ("command", "_castep_command"))
    return next((command for command in found if command), None)
