"""A search as a user looks at it from Python: candidates, the best of them, structures and history."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

from fuse_flows.errors import DatabaseError
from fuse_flows.relax.hull import level_of_tier
from fuse_flows.store.connection import Connection, connect
from fuse_flows.store.frames import COLUMNS, candidate_frame, history_frame, move_frame, tier_frame
from fuse_flows.store.queries import best_candidates, candidate_rows, candidates, find_search
from fuse_flows.store.searches import search_config_of
from fuse_flows.store.selection import outcome_of, space_group_number

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure

    from fuse_flows.config import SearchConfig
    from fuse_flows.relax.hull import ReferenceEntries


class Search:
    """A search in the database.

    Parameters
    ----------
    search
        Its id, the beginning of its id, or a formula for the newest search of it.
    connection
        The database; None for the one that the command line would use.

    Raises
    ------
    DatabaseError
        If there is no such search, or more than one.

    Examples
    --------
    >>> search = Search("SrTiO3")  # doctest: +SKIP
    >>> search.candidates(within=0.1)[["energy_per_atom", "space_group", "move"]]  # doctest: +SKIP
    >>> search.structure(search.unique()[0]["candidate_id"]).to("best.cif")  # doctest: +SKIP
    """

    def __init__(self, search: str, connection: Connection | None = None) -> None:
        self.connection = connect() if connection is None else connection
        self.search_id = find_search(self.connection, search)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.search_id!r})"

    @cached_property
    def config(self) -> SearchConfig:
        """The configuration that it was submitted with."""
        return search_config_of(self.connection, self.search_id)

    @property
    def formula(self) -> str:
        """Its formula unit."""
        return self.config.formula

    @overload
    def candidates(
        self,
        *,
        documents: Literal[False] = False,
        within: float | None = None,
        space_group: int | str | None = None,
        outcome: str | None = None,
        hull: ReferenceEntries | None = None,
        **conditions: Any,
    ) -> pd.DataFrame: ...

    @overload
    def candidates(
        self,
        *,
        documents: Literal[True],
        within: float | None = None,
        space_group: int | str | None = None,
        outcome: str | None = None,
        hull: ReferenceEntries | None = None,
        **conditions: Any,
    ) -> list[dict[str, Any]]: ...

    def candidates(
        self,
        *,
        documents: bool = False,
        within: float | None = None,
        space_group: int | str | None = None,
        outcome: str | None = None,
        hull: ReferenceEntries | None = None,
        **conditions: Any,
    ) -> pd.DataFrame | list[dict[str, Any]]:
        """Return candidates in the order in which they were judged.

        Parameters
        ----------
        documents
            The whole documents, structures included, and not a table.
        within
            Only those at most so much above the lowest energy of the search, eV/atom.
        space_group
            Only those of this space group (at a tolerance of 0.1 A), by number or symbol.
        outcome
            Only those whose relaxation ended so; see :class:`.Outcome`.
        hull
            Entries from :func:`.read_references`: adds ``e_above_hull`` (eV/atom; negative below the hull of the
            entries) and ``hull_level`` to each.
        **conditions
            Fields of a candidate with the value, or MongoDB condition, that they must fulfil.

        Returns
        -------
        pandas.DataFrame or list of dict
            One row, or :class:`.CandidateDoc` document, per candidate. ``number`` counts the structures of the search
            from 1, also where only some are shown.

        Raises
        ------
        ConfigError
            If there is no such space group or outcome, or the entries are of another level than the last tier.
        """
        query: dict[str, Any] = dict(conditions)
        if outcome is not None:
            query["outcome"] = outcome_of(outcome).value
        if space_group is not None:
            query["space_group_number"] = space_group_number(space_group)
        if within is not None:
            lowest = self.best(1)
            limit = lowest[0]["enthalpy_per_atom"] + within if lowest else None
            query["$and"] = [*query.get("$and", []), {"enthalpy_per_atom": {"$ne": None, "$lte": limit}}]
        if documents:
            documented = candidates(self.connection, self.search_id, **query)
            return documented if hull is None else self.above_hull(documented, hull)
        frame = candidate_frame(candidate_rows(self.connection, self.search_id, COLUMNS))
        if query:
            found = candidate_rows(self.connection, self.search_id, ["candidate_id"], query)
            chosen = {row["candidate_id"] for row in found}
            frame = frame[frame["candidate_id"].isin(chosen)].reset_index(drop=True)
        if hull is not None:
            energies = frame["enthalpy_per_atom"].astype(float)
            frame = frame.assign(e_above_hull=energies - self.hull_energy(hull), hull_level=self._mark(hull))
        return frame

    def hull_energy(self, hull: ReferenceEntries) -> float:
        """Return the energy of a hull at the composition of the search.

        Parameters
        ----------
        hull
            Entries from :func:`.read_references`.

        Returns
        -------
        float
            eV/atom.

        Raises
        ------
        ConfigError
            If the entries are of another level than the last tier, or an element has none.
        """
        hull.check(level_of_tier(self.config.tiers[-1]))
        return hull.energy_per_atom(self.formula)

    def above_hull(self, documents: list[dict[str, Any]], hull: ReferenceEntries) -> list[dict[str, Any]]:
        """Return candidates with ``e_above_hull`` (eV/atom, None without energy) and ``hull_level`` added."""
        zero, mark = self.hull_energy(hull), self._mark(hull)
        energies = [doc["enthalpy_per_atom"] for doc in documents]
        above = [None if energy is None else energy - zero for energy in energies]
        return [
            doc | {"e_above_hull": energy, "hull_level": mark} for doc, energy in zip(documents, above, strict=True)
        ]

    def best(
        self, n: int | None = 10, *, within: float | None = None, space_group: int | str | None = None
    ) -> list[dict[str, Any]]:
        """Return the converged candidates of lowest energy, copies included.

        Parameters
        ----------
        n
            How many; None for all.
        within
            At most so much above the lowest energy of the search, eV/atom.
        space_group
            By number or symbol.

        Returns
        -------
        list of dict
            :class:`.CandidateDoc` documents, lowest energy per atom first.
        """
        return self._lowest(n, within, space_group, unique=False)

    def unique(
        self, n: int | None = None, *, within: float | None = None, space_group: int | str | None = None
    ) -> list[dict[str, Any]]:
        """Return the lowest candidate of every minimum that was found.

        Parameters
        ----------
        n
            How many; None for all.
        within
            At most so much above the lowest energy of the search, eV/atom.
        space_group
            By number or symbol.

        Returns
        -------
        list of dict
            :class:`.CandidateDoc` documents with ``copies``, the number of candidates that relaxed into this minimum;
            lowest energy per atom first.
        """
        return self._lowest(n, within, space_group, unique=True)

    def document(self, candidate_id: str) -> dict[str, Any]:
        """Return all that is known of one candidate.

        Parameters
        ----------
        candidate_id
            Its identifier, or the beginning of it.

        Returns
        -------
        dict
            A :class:`.CandidateDoc`.

        Raises
        ------
        DatabaseError
            If the search has no such candidate, or several.
        """
        begin = {"$regex": f"^{re.escape(candidate_id)}"}
        found = candidates(self.connection, self.search_id, candidate_id=begin) if candidate_id else []
        if len(found) == 1:
            return found[0]
        what = "is the beginning of several candidates" if found else "is no candidate"
        raise DatabaseError(f"candidate: {candidate_id!r} {what} of {self.search_id}; see: fuse-flows results")

    def structure(self, candidate_id: str, *, before: bool = False) -> Structure:
        """Return the structure of one candidate.

        Parameters
        ----------
        candidate_id
            Its identifier, or the beginning of it.
        before
            As it was proposed and not as it was relaxed.

        Returns
        -------
        pymatgen.core.Structure
            In the cell that its energy belongs to.

        Raises
        ------
        DatabaseError
            If the search has no such candidate, or several, or it has no structure.
        """
        from pymatgen.core import Structure

        found = self.document(candidate_id)
        values = found["structure_before" if before else "structure"]
        if values is None:
            raise DatabaseError(f"candidate: {candidate_id!r} has no structure ({found['reason']}); choose another")
        return Structure.from_dict(values)

    def history(self) -> pd.DataFrame:
        """Return what happened in the order in which it did.

        Returns
        -------
        pandas.DataFrame
            All rows of :meth:`candidates` with ``lowest`` (of the walker so far, eV/atom) and ``is_new_lowest``.
        """
        return history_frame(self.candidates())

    def moves(self) -> pd.DataFrame:
        """Return how often each move was proposed, accepted and failed; see :func:`.move_frame`."""
        fields = ("move", "failed_moves", "accepted", "energy_per_atom")
        return move_frame(candidate_rows(self.connection, self.search_id, fields))

    def tiers(self) -> pd.DataFrame:
        """Return steps, seconds and outcome of every tier of every candidate; see :func:`.tier_frame`."""
        return tier_frame(candidate_rows(self.connection, self.search_id, ("candidate_id", "n_atoms", "tiers")))

    def span(self) -> tuple[str, str] | None:
        """Return when its jobs stored their first and their last output.

        Returns
        -------
        tuple of str or None
            ISO, local time of the workers; None before the first one.
        """
        stages: list[dict[str, Any]] = [
            {"$match": {"metadata.search_id": self.search_id}},
            {"$group": {"_id": None, "first": {"$min": "$completed_at"}, "last": {"$max": "$completed_at"}}},
        ]
        found = next(iter(self.connection.outputs.aggregate(stages)), None)
        return None if found is None else (str(found["first"])[:19], str(found["last"])[:19])

    def _mark(self, hull: ReferenceEntries) -> str:
        return hull.mark(level_of_tier(self.config.tiers[-1]))

    def _lowest(
        self, n: int | None, within: float | None, space_group: int | str | None, *, unique: bool
    ) -> list[dict[str, Any]]:
        number = None if space_group is None else space_group_number(space_group)
        return best_candidates(self.connection, self.search_id, n, unique=unique, within=within, space_group=number)
