"""When a candidate is not worth more steps: far above the best one, and hardly falling or at the end of a tier."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fuse_flows.relax.guards import Verdict
from fuse_flows.relax.result import Outcome

if TYPE_CHECKING:
    from fuse_flows.config import TierConfig
    from fuse_flows.relax.result import RelaxResult

#: Calls of the engine over which the fall of the energy is looked at.
LOOK_BACK = 10
#: Calls of the engine for which an energy is taken to fall on as fast as over the last ones; it falls ever more slowly.
LOOK_AHEAD = 100


class Watch:
    """Looks at the energies of one relaxation, and says when there is no hope that it ends near the best candidate.

    Parameters
    ----------
    tier
        Its ``stop_above_best`` counts; None: there is always hope.
    reference
        Energy of the best candidate in the same tier, eV/atom; None: there is always hope.
    n_atoms
        Number of atoms.
    """

    def __init__(self, tier: TierConfig, reference: float | None, n_atoms: int) -> None:
        self._ceiling = None
        if tier.stop_above_best is not None and reference is not None:
            self._ceiling = reference + tier.stop_above_best
        self._reference = reference
        self._n_atoms = n_atoms
        self._energies: list[float] = []

    def look(self, energy: float) -> Verdict | None:
        """Take the lowest energy so far, once for each call of the engine.

        Parameters
        ----------
        energy
            Total energy, eV; with a pressure the enthalpy, as in ``reference``.

        Returns
        -------
        Verdict or None
            ``SCREENED_OUT`` if the energy would stay above the ceiling even if it fell as fast as over the last
            :data:`LOOK_BACK` calls for another :data:`LOOK_AHEAD`; None to go on.
        """
        if self._ceiling is None or self._reference is None:
            return None
        self._energies.append(energy / self._n_atoms)
        if len(self._energies) <= LOOK_BACK:
            return None
        now = self._energies[-1]
        fall = (self._energies[-1 - LOOK_BACK] - now) / LOOK_BACK
        if now - LOOK_AHEAD * fall <= self._ceiling:
            return None
        above, rate = now - self._reference, 1e3 * fall
        return Verdict(Outcome.SCREENED_OUT, f"{above:.3g} eV/atom above the best, falling by {rate:.2g} meV a call")


def screened(result: RelaxResult, tier: TierConfig, reference: float | None) -> RelaxResult:
    """Judge what a tier made of a candidate that others wait for.

    Parameters
    ----------
    result
        The end of the tier.
    tier
        Its ``max_energy_above_best`` counts.
    reference
        Energy of the best candidate in the same tier, eV/atom; None if there is none.

    Returns
    -------
    RelaxResult
        With the outcome ``SCREENED_OUT``, and its energy, if that lies too high; otherwise the result as it is.
    """
    energy, limit = result.enthalpy_per_atom, tier.max_energy_above_best
    if limit is None or reference is None or energy is None or energy - reference <= limit:
        return result
    reason = f"{energy - reference:.3g} eV/atom above the best in {result.engine}"
    return replace(result, outcome=Outcome.SCREENED_OUT, reason=reason)
