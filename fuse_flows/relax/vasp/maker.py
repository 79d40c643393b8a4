"""The staged relaxation as a Maker, for Flows of one's own; searches use the same function inside their own jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atomate2.vasp.jobs.base import BaseVaspMaker, vasp_job
from emmet.core.tasks import TaskDoc
from jobflow import Response

from fuse_flows.config import TierConfig
from fuse_flows.errors import JobFailedError
from fuse_flows.relax.vasp.inputs import StageInputGenerator
from fuse_flows.relax.vasp.options import VASP, parse_options
from fuse_flows.relax.vasp.stage import RunSettings
from fuse_flows.relax.vasp.staged import relax_staged

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass
class StagedRelaxMaker(BaseVaspMaker):
    """Relax a structure in the stages of the FUSE2 paper (or others) in one job of atomate2.

    Parameters
    ----------
    name
        Title of the job.
    input_set_generator
        Its ``user_incar_settings`` are put over every stage, as atomate2's powerups expect.
    tier
        Options and guards, as plain values of a :class:`.TierConfig`.
    run_vasp_kwargs
        Keywords of :func:`atomate2.vasp.run.run_vasp` for every stage.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> mgo = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> StagedRelaxMaker().make(mgo).name
    'staged relaxation'
    """

    name: str = "staged relaxation"
    input_set_generator: StageInputGenerator = field(default_factory=StageInputGenerator)
    tier: dict[str, Any] = field(default_factory=lambda: {"calculator": VASP})

    @vasp_job
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> Response:
        """Run all stages in folders of the working directory.

        Parameters
        ----------
        structure
            Where the relaxation begins.
        prev_dir
            Not used: each stage begins from its POSCAR alone.

        Returns
        -------
        Response
            With a TaskDoc whose ``calcs_reversed`` holds the stages, the last one first.

        Raises
        ------
        JobFailedError
            If the relaxation failed; one that only used up its steps is returned.
        """
        del prev_dir
        tier = TierConfig.model_validate(self.tier)
        options, own = parse_options(tier), self.input_set_generator.user_incar_settings
        options = options.model_copy(update={"stages": tuple(stage | own for stage in options.stages)})
        watch = RunSettings(run_vasp=self.run_vasp_kwargs)
        part = relax_staged(structure, options, tier, Path.cwd(), watch=watch)
        result = part.result
        if result is None or part.document is None or not result.outcome.has_energy:
            raise JobFailedError(f"{self.name}: {'' if result is None else result.reason}")
        return Response(output=TaskDoc.model_validate(part.document | {"task_label": self.name}))
