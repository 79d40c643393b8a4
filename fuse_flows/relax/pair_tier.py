"""A tier that relaxes with pair potentials: the whole relaxation of a structure is one compiled call."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import fuse_flows
from fuse_flows.errors import FuseFlowsError
from fuse_flows.relax import guards
from fuse_flows.relax.guards import ABSURD_FORCE, Verdict
from fuse_flows.relax.result import Outcome, RelaxResult, one_line, with_geometry
from fuse_flows.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from fuse_flows.config import TierConfig
    from fuse_flows.potentials.ewald import LongRange
    from fuse_flows.potentials.tables import PairTables

LONGEST_STEP = 0.2
"""Largest displacement of an atom in one step, A."""
STIFFNESS = 20.0
"""Curvature assumed for the first step, eV/A^2."""
PAIRS_PER_LOOK = 2_000_000_000
"""Pairs to be summed between two looks at the clock: some ten seconds."""


class _End(NamedTuple):
    """What the compiled loop leaves behind."""

    code: int
    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    record: NDArray[np.float64]


class PairRelaxer:
    """Relaxation with tabulated pair potentials.

    The same guards as for any other tier hold, but a step into a bad geometry is shortened before the relaxation is
    given up. The tier's ``optimizer`` does not count: the optimiser is the compiled L-BFGS of
    :mod:`fuse_flows.relax.lbfgs`.

    Parameters
    ----------
    tier
        Limits and guards; its calculator is the name of the engine.
    tables
        The potentials, or a function that takes the symbols of a structure's elements in alphabetical order and
        returns tables that hold them (it may raise ConfigError). It is called once for each set of elements.
    gnorm
        Converged when the root mean square of all forces (eV/A) and of the six derivatives of the energy with respect
        to a strain (eV) is below this, as "gnorm" of GULP and of the FUSE2 paper (10.1039/d4fd00094c), which use 0.1;
        None: the tier's ``fmax`` and ``smax`` count.
    long_range
        What the tables leave out beyond their cut-off; see :mod:`fuse_flows.potentials.ewald`.
    """

    def __init__(
        self,
        tier: TierConfig,
        tables: PairTables | Callable[[tuple[str, ...]], PairTables],
        *,
        gnorm: float | None = None,
        long_range: LongRange | None = None,
    ) -> None:
        self.tier = tier
        self.long_range = long_range
        self.gnorm = gnorm
        self._source = tables
        self._made: dict[tuple[str, ...], PairTables] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Name of the calculator, as in the configuration."""
        return self.tier.calculator

    @property
    def version(self) -> str:
        """Version of this package, which holds the engine."""
        return fuse_flows.__version__

    def tables_of(self, symbols: Sequence[str]) -> PairTables:
        """Return the potentials of some elements.

        Raises
        ------
        ConfigError
            If there is none for one of them.
        """
        if not callable(self._source):
            return self._source
        key = tuple(sorted(set(symbols)))
        with self._lock:
            if key not in self._made:
                self._made[key] = self._source(key)
            return self._made[key]

    def relax(self, structure: Structure) -> RelaxResult:
        """Relax a structure; see :meth:`fuse_flows.relax.base.Relaxer.relax`.

        The same input gives the same result to the last bit, alone or in a batch. Energies are kept only for
        ``CONVERGED``, ``NOT_CONVERGED`` and ``TIMED_OUT``.

        Parameters
        ----------
        structure
            Ordered, periodic structure; it is not changed.

        Returns
        -------
        RelaxResult
            The end of the relaxation.
        """
        start = time.monotonic()
        try:
            symbols = _symbols(structure)
            tables = self.tables_of(symbols)
            end = self._run(structure.lattice.matrix, structure.cart_coords, symbols, tables, start)
        except FuseFlowsError as error:
            return self._failed(structure, str(error), time.monotonic() - start)
        except Exception as error:  # noqa: BLE001 - every failure is a result with a reason
            return self._failed(structure, f"{type(error).__name__}: {error}", time.monotonic() - start)
        return self._result(structure, end, tables, time.monotonic() - start)

    def relax_batch(self, structures: Sequence[Structure], threads: int | None = None) -> list[RelaxResult]:
        """Relax many structures; each result is that of :meth:`relax`, whatever the number of threads.

        Parameters
        ----------
        structures
            Ordered, periodic structures; they are not changed.
        threads
            Structures that are relaxed at the same time, for the compiled loop releases the GIL; None:
            ``FUSE_FLOWS_RELAX_WORKERS``.

        Returns
        -------
        list of RelaxResult
            In the order of the structures.
        """
        threads = settings().relax_workers if threads is None else threads
        if threads <= 1 or len(structures) < 2:
            return [self.relax(structure) for structure in structures]
        with ThreadPoolExecutor(min(threads, len(structures))) as pool:
            return list(pool.map(self.relax, structures))

    def _run(
        self,
        cell: NDArray[np.float64],
        positions: NDArray[np.float64],
        symbols: Sequence[str],
        tables: PairTables,
        start: float,
    ) -> _End:
        """Start the optimiser and call the compiled loop until it ends or the time is up."""
        from fuse_flows.potentials.ewald import splitting
        from fuse_flows.relax import lbfgs, pair_loop

        kinds, tier = tables.kinds(symbols), self.tier
        n = kinds.size
        charges, tail = None, 0.0
        if self.long_range is not None:
            charges = self.long_range.charges_of(symbols)
            tail = self.long_range.tail_of(symbols, tables.cutoff)
        reference = np.array(cell, dtype=np.float64, order="C")  # a view that must not be written to is compiled anew
        x = np.concatenate([np.asarray(positions, dtype=np.float64).ravel(), np.zeros(9 if tier.relax_cell else 0)])
        memory = lbfgs.new_memory(x.size, lbfgs.MEMORY, LONGEST_STEP, 1e-9 * n, STIFFNESS)
        lbfgs.start(memory, x)
        limits, record = self._limits(), np.zeros(pair_loop.N_RECORD)
        forces, virial = np.zeros((n, 3)), np.zeros((3, 3))
        own = float(tables.self_energies[kinds].sum())
        calls = max(10, PAIRS_PER_LOOK // (2000 * n * n))
        code = pair_loop.UNFINISHED
        while code == pair_loop.UNFINISHED and time.monotonic() - start < tier.time_limit:
            code = pair_loop.relax_loop(
                memory,
                reference,
                kinds,
                tables.arrays(),
                tables.cutoff,
                own,
                charges,
                splitting(tables.cutoff),
                tail,
                tier.relax_cell,
                limits,
                calls,
                record,
                forces,
                virial,
            )
        final, coords = np.empty((3, 3)), np.empty((n, 3))
        pair_loop.place(memory.point, reference, tier.relax_cell, final, coords)
        return _End(code, final, coords, record)

    def _limits(self) -> NDArray[np.float64]:
        from ase.units import GPa

        from fuse_flows.relax import pair_loop

        tier, limits = self.tier, np.zeros(pair_loop.N_LIMITS)
        limits[pair_loop.LIMIT_FMAX] = tier.fmax
        limits[pair_loop.LIMIT_SMAX] = tier.smax * GPa
        limits[pair_loop.LIMIT_GNORM] = 0.0 if self.gnorm is None else self.gnorm
        limits[pair_loop.LIMIT_CONTACT] = tier.min_distance
        limits[pair_loop.LIMIT_VOLUME] = tier.max_volume_change
        limits[pair_loop.LIMIT_FORCE] = ABSURD_FORCE
        limits[pair_loop.LIMIT_STEPS] = tier.max_steps
        limits[pair_loop.PRESSURE] = tier.gigapascals * GPa
        return limits

    def _result(self, structure: Structure, end: _End, tables: PairTables, seconds: float) -> RelaxResult:
        from ase.units import GPa

        from fuse_flows.relax import pair_loop

        record = end.record
        computed = record[pair_loop.FMAX] > 0.0 or record[pair_loop.ENERGY] != 0.0
        outcome, reason = self._verdict(end, tables, seconds)
        trusted = computed and outcome.has_energy
        return RelaxResult(
            outcome=outcome,
            structure=with_geometry(structure, end.cell, np.linalg.solve(end.cell.T, end.positions.T).T)
            if computed
            else structure.copy(),
            energy=float(record[pair_loop.ENERGY]) if trusted else None,
            fmax=float(record[pair_loop.FMAX]) if computed else None,
            smax=float(record[pair_loop.SMAX] / GPa) if computed else None,
            steps=int(record[pair_loop.STEPS]),
            seconds=seconds,
            reason=reason,
            engine=self.name,
            engine_version=self.version,
            pressure=self.tier.gigapascals,
        )

    def _verdict(self, end: _End, tables: PairTables, seconds: float) -> Verdict:
        """Outcome and reason in words."""
        from ase.units import GPa

        from fuse_flows.relax import pair_loop

        record, worst = end.record, float(end.record[pair_loop.WORST])
        left = guards.residual_of(self.tier, record[pair_loop.FMAX], record[pair_loop.SMAX] / GPa)
        return {
            pair_loop.CONVERGED: Verdict(Outcome.CONVERGED, ""),
            pair_loop.OUT_OF_STEPS: guards.out_of_steps(left, int(record[pair_loop.STEPS])),
            pair_loop.UNFINISHED: guards.out_of_time(left, seconds),
            pair_loop.TOO_CLOSE: guards.too_close(worst, self.tier),
            pair_loop.EXPLODED: guards.exploded(worst),
            pair_loop.ISOLATED: guards.isolated(worst, tables.cutoff),
            pair_loop.ABSURD_FORCE: guards.absurd_force(worst),
            pair_loop.NOT_FINITE: Verdict(Outcome.EXPLODED, "positions, cell or energy are not finite"),
        }[end.code]

    def _failed(self, structure: Structure, reason: str, seconds: float) -> RelaxResult:
        return RelaxResult(
            outcome=Outcome.ENGINE_ERROR,
            structure=structure.copy(),
            seconds=seconds,
            reason=one_line(reason),
            engine=self.name,
            engine_version=self.version,
            pressure=self.tier.gigapascals,
        )


def _symbols(structure: Structure) -> list[str]:
    if not structure.is_ordered:
        raise FuseFlowsError("the structure has partly occupied sites")
    return [site.specie.symbol for site in structure]
