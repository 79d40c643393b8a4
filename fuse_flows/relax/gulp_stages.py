"""What GULP is asked to do, as data: the stages of the FUSE2 paper's relaxations and ranking, and a user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuse_flows.errors import ConfigError

_FIELD = "tiers.calculator_kwargs"


@dataclass(frozen=True)
class GulpStage:
    """One run of GULP.

    Parameters
    ----------
    keywords
        Words of the first line of the input.
    options
        Further lines of the input.
    """

    keywords: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def optimises(self) -> bool:
        """Whether this run is to reach a minimum."""
        return any(word.startswith("opti") for word in self.keywords)

    def with_cell(self, *, relax: bool) -> GulpStage:
        """Return the stage at constant volume unless the cell is to be relaxed."""
        if relax:
            return self
        return GulpStage(tuple("conv" if word == "conp" else word for word in self.keywords), self.options)


_TOLERANCES = ("gmax 0.1", "gtol 0.1", "ftol 0.1", "xtol 0.1")
_GRADIENTS = ("opti", "conj", "conp", "noelectro")
_SINGLE = ("sing", "conp", "noelectro")

#: The stages of the paper's inputs (10.1039/d4fd00094c). Its second stage was to have ``stepmax 0.5``. The taper
#: (``cutp``) is no part of them, see :class:`GulpOptions`; nor is ``time``, for the tier keeps the time itself.
PRESETS: dict[str, tuple[GulpStage, ...]] = {
    "relax": (
        GulpStage(_GRADIENTS, ("maxcyc 250", "stepmax 0.001")),
        GulpStage(_GRADIENTS, ("maxcyc 250", "stepmax 0.5", *_TOLERANCES)),
        GulpStage(_GRADIENTS, ("maxcyc 1500", *_TOLERANCES)),
        GulpStage(_GRADIENTS, ("maxcyc 1500", *_TOLERANCES, "switch_minimiser bfgs gnorm 1")),
        GulpStage(_SINGLE),
    ),
    "rank": (
        GulpStage(_GRADIENTS, ("maxcyc 250", "stepmax 0.001", *_TOLERANCES)),
        GulpStage(_GRADIENTS, ("maxcyc 250", "stepmax 0.5", *_TOLERANCES)),
        GulpStage(("opti", "conp", "noelectro"), ("maxcyc 1500", "lbfgs_order 5000", *_TOLERANCES)),
        GulpStage(("opti", "conp", "noelectro"), ("maxcyc 1500", "lbfgs_order 5000", *_TOLERANCES)),
        GulpStage(_SINGLE),
    ),
    "single": (GulpStage(_SINGLE),),
}


@dataclass(frozen=True)
class GulpOptions:
    """The keywords of a GULP tier.

    Parameters
    ----------
    stages
        Runs in order; each starts from the structure the one before it left.
    library
        ``.lib`` file or folder of ``A-B.POT`` files with splines; each pair is handed to GULP once.
    include
        A file of potentials that is handed to GULP as it is: Buckingham potentials, charges. Without ``library``; the
        stages that go by a name then leave electrostatics on.
    taper
        Width, in A, over which GULP tapers the tables of ``library`` to zero at their end (``cutp``); 0: not at all.
        The paper used the original library with 2.
    accept_gnorm
        An optimisation that GULP ends with "no lower point can be found" counts as converged below this gradient norm.
    """

    stages: tuple[GulpStage, ...]
    library: Path | None = None
    include: Path | None = None
    taper: float = 0.0
    accept_gnorm: float = 0.0


def parse_options(kwargs: dict[str, Any]) -> GulpOptions:
    """Check the keywords of a GULP tier.

    Parameters
    ----------
    kwargs
        ``library`` or ``include`` (paths), ``stages`` (``relax``, ``rank``, ``single``, or a list of
        ``{keywords: [...], options: [...]}``), ``taper`` and ``accept_gnorm``.

    Returns
    -------
    GulpOptions
        With absolute paths.

    Raises
    ------
    ConfigError
        Naming the keyword that is unknown, missing or has a bad value.
    """
    unknown = set(kwargs) - {"library", "include", "stages", "taper", "accept_gnorm"}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise ConfigError(_FIELD, f"gulp does not know {names}; use library, include, stages, taper or accept_gnorm")
    if ("library" in kwargs) == ("include" in kwargs):
        raise ConfigError(_FIELD, "gulp needs library (splines) or include (any potentials of GULP), and not both")
    taper, accept_gnorm = _positive(kwargs, "taper"), _positive(kwargs, "accept_gnorm")
    if taper and "include" in kwargs:
        raise ConfigError(f"{_FIELD}.taper", "needs library; write cutp into the file that is included")
    stages = _stages(kwargs.get("stages", "relax"), charges="include" in kwargs)
    return GulpOptions(stages, _path(kwargs, "library"), _path(kwargs, "include"), taper, accept_gnorm)


def preset(name: str, *, charges: bool) -> tuple[GulpStage, ...]:
    """Return stages by name.

    Parameters
    ----------
    name
        ``relax``, ``rank`` or ``single``.
    charges
        Whether the potentials may come with charges; the paper's stages turn electrostatics off (``noelectro``).

    Returns
    -------
    tuple of GulpStage
        The stages.
    """
    if not charges:
        return PRESETS[name]
    return tuple(GulpStage(tuple(w for w in s.keywords if w != "noelectro"), s.options) for s in PRESETS[name])


def _positive(kwargs: dict[str, Any], name: str) -> float:
    value = kwargs.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ConfigError(f"{_FIELD}.{name}", f"must be a number of at least 0 (got {value!r})")
    return float(value)


def _path(kwargs: dict[str, Any], name: str) -> Path | None:
    if name not in kwargs:
        return None
    value = kwargs[name]
    path = Path(value).expanduser().absolute() if isinstance(value, str) else None
    if path is None or not path.exists():
        raise ConfigError(f"{_FIELD}.{name}", f"{value!r} does not exist; give the path of a file of potentials")
    if name == "include" and not path.is_file():
        raise ConfigError(f"{_FIELD}.{name}", f"{value!r} is no file; a folder of A-B.POT files is a library")
    return path


def _stages(value: object, *, charges: bool) -> tuple[GulpStage, ...]:
    field = f"{_FIELD}.stages"
    if isinstance(value, str):
        if value not in PRESETS:
            raise ConfigError(field, f"{value!r} is unknown; use {', '.join(PRESETS)} or a list of stages")
        return preset(value, charges=charges)
    if not isinstance(value, list) or not value:
        raise ConfigError(field, f"must be one of {', '.join(PRESETS)} or a list of stages")
    return tuple(_stage(entry, f"{field}.{number}") for number, entry in enumerate(value))


def _stage(entry: object, field: str) -> GulpStage:
    if not isinstance(entry, dict) or set(entry) - {"keywords", "options"} or "keywords" not in entry:
        raise ConfigError(field, "must have keywords and may have options, both lists of words or lines")
    parts: dict[str, tuple[str, ...]] = {}
    for name in ("keywords", "options"):
        values = entry.get(name, [])
        values = values.split() if isinstance(values, str) and name == "keywords" else values
        if not isinstance(values, list) or not all(isinstance(v, str) and v and "\n" not in v for v in values):
            raise ConfigError(f"{field}.{name}", "must be a list of lines")
        parts[name] = tuple(values)
    stage = GulpStage(**parts)
    if not any(word.startswith(("opti", "sing")) for word in stage.keywords):
        raise ConfigError(f"{field}.keywords", "must say opti or sing")
    ours = {"dump", "incl", "libr", "cell", "pres"}
    reserved = [line for line in stage.options if line.split()[0][:4].lower() in ours]
    if reserved:
        raise ConfigError(f"{field}.options", f"{reserved[0]!r} is written by fuse_flows itself; remove it")
    return stage
