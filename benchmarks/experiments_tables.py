"""Tables and pictures of ``experiments.py``: three tables for the known compounds, three for the hypothetical ones.

Tables 1 and 4: time per structure relative to fgen; 2 and 5: lowest energies; 3 and 6: what the search gained over its
first population. Tables of our own follow: lowest energies at equal cost, and where the lowest structures come from.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from experiments_paper import COMPOUNDS, HYPOTHETICAL, IMPROVEMENT, KNOWN, LOWEST, SPEED

from fuse_flows.flows.recipes import RECIPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from experiments_rows import Yardstick

SAME = 0.002  # eV/atom within which two energies are called equal
Row = dict[str, Any]

_LEGEND_OF_GAIN = (
    f"Mean over the runs (largest); in how many of the runs it gained more than {1000 * SAME:g} meV/atom. Paper, all "
    f"compounds: {IMPROVEMENT}."
)
_LEGEND_OF_COST = (
    "Mean over the runs of what each had found within the CPU time of the shortest run, with generation and ranking; "
    "-: some run had nothing by then."
)


def tables(rows: Sequence[Row], yardstick: Yardstick) -> dict[str, Any]:
    """The numbers of all tables, by compound and recipe."""
    groups = group(rows)
    return {
        "time": {formula: time_of(runs) for formula, runs in groups.items()},
        "lowest": {formula: lowest_of(formula, runs, yardstick) for formula, runs in groups.items()},
        "improvement": {formula: {name: gain_of(of) for name, of in runs.items()} for formula, runs in groups.items()},
        "at_equal_cost": {formula: at_equal_cost(runs) for formula, runs in groups.items()},
    }


def group(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Runs with at least one structure, by compound and recipe, in the order of the paper."""
    return {
        formula: {name: runs for name in RECIPES if (runs := _of(rows, formula, name))}
        for formula in COMPOUNDS
        if any(row["formula"] == formula and row["structures"] for row in rows)
    }


def time_of(runs: dict[str, list[Row]]) -> dict[str, dict[str, float | None]]:
    """CPU seconds per structure, of the tiers alone and with generation and ranking, and both relative to fgen."""
    found: dict[str, dict[str, float | None]] = {}
    for name, of in runs.items():
        structures = sum(row["structures"] for row in of)
        whole = sum(row["cpu_seconds"] for row in of)
        before = sum(row["cpu_by"].get(part, 0.0) for row in of for part in ("generate", "rank"))
        found[name] = {"structures": structures, "tiers": (whole - before) / structures, "all": whole / structures}
    base = found.get("fgen")
    for values in found.values():
        for key in ("tiers", "all"):
            own, of_fgen = values[key], base and base[key]
            values[f"{key}_times_as_fast"] = of_fgen / own if own and of_fgen else None
    return found


def lowest_of(formula: str, runs: dict[str, list[Row]], yardstick: Yardstick) -> dict[str, Any]:
    """Lowest energies of each recipe (best run, and all runs), and what they are compared with."""
    energies = {name: [row["lowest"] for row in of if row["lowest"] is not None] for name, of in runs.items()}
    best = {name: min(found) for name, found in energies.items() if found}
    lowest = min(best.values(), default=None)
    known, published = yardstick.lowest_known(formula), yardstick.lowest_published(formula)
    return {
        "ours": best,
        "runs": energies,
        "lowest": lowest,
        "known": known,
        "published": published,
        "published_by": yardstick.published.get(formula, {}),
        "mev_above_known": None if lowest is None or known is None else 1000 * (lowest - known),
        "mev_above_published": None if lowest is None or published is None else 1000 * (lowest - published),
        "paper_pbe": LOWEST.get(formula),
    }


def gain_of(runs: Sequence[Row]) -> dict[str, Any]:
    """What the search gained over the first population, meV/atom: mean, largest, and in how many runs anything."""
    gains = [1000 * row["improvement"] for row in runs if row["improvement"] is not None]
    return {
        "runs": len(gains),
        "improved": sum(gain > 1000 * SAME for gain in gains),
        "mean": fmean(gains) if gains else None,
        "largest": max(gains, default=None),
    }


def at_equal_cost(runs: dict[str, list[Row]]) -> dict[str, Any]:
    """Mean over the runs of the lowest energy within the CPU time that every run used up."""
    limit = min((row["cpu_seconds"] for of in runs.values() for row in of), default=0.0)
    mean: dict[str, float | None] = {}
    for name, of in runs.items():
        reached = [energy for row in of if (energy := energy_within(row, limit)) is not None]
        mean[name] = fmean(reached) if len(reached) == len(of) else None
    return {"cpu_seconds": limit, "mean_lowest": mean}


def energy_within(row: Row, cpu_seconds: float) -> float | None:
    """Lowest energy that a run had found after so many CPU seconds; None: nothing yet."""
    found = [place["energy"] for place in row["history"] if place["cpu_seconds"] <= cpu_seconds]
    return min(found, default=None)


def markdown(found: dict[str, Any]) -> str:
    """All tables as Markdown."""
    made, settings = found["tables"], found["settings"]
    parts = ["# The experiments of the FUSE2 paper", _heading(found, settings)]
    for offset, which, compounds in ((0, "known compounds", KNOWN), (3, "hypothetical compounds", HYPOTHETICAL)):
        names = [name for name in compounds if name in made["lowest"]]
        if not names:
            continue
        paper = "" if offset else f"\n\nPaper (CPU time with VASP): {SPEED}."
        parts += [
            f"## Table {1 + offset}. Time per structure relative to fgen, {which}",
            "CPU seconds per structure, and how many times as fast as fgen; in brackets with generation and ranking."
            + paper,
            _grid(names, lambda name, recipe: _time(made["time"][name].get(recipe))),
            f"## Table {2 + offset}. Lowest energies, {which} (eV/atom)",
            "Of the best run; in brackets the paper's, which are of PBE and of no common scale with other tiers.",
            _grid(names, lambda name, recipe: _lowest(made["lowest"][name], recipe)),
            _against(names, made["lowest"]),
            f"## Table {3 + offset}. What the search gained over its first population, {which} (meV/atom)",
            _LEGEND_OF_GAIN,
            _grid(names, lambda name, recipe: _gain(made["improvement"][name].get(recipe))),
        ]
    names = list(made["at_equal_cost"])
    parts += [
        "## Lowest energies at equal cost (eV/atom)",
        _LEGEND_OF_COST,
        _grid(names, lambda name, recipe: _number(made["at_equal_cost"][name]["mean_lowest"].get(recipe), "{:.4f}")),
        "## The lowest structures",
        _origins(found["runs"]),
    ]
    return "\n\n".join(parts) + "\n"


def draw(rows: Sequence[Row], yardstick: Yardstick, output: Path) -> None:
    """Draw the lowest energy against CPU time and against structures, one panel per compound; beside ``output``."""
    groups = group(rows)
    if not groups:
        return
    from matplotlib.figure import Figure

    colors = dict(zip(RECIPES, ("gray", "tab:blue", "tab:cyan", "tab:orange", "tab:red", "tab:purple"), strict=True))
    for quantity, label, end in (("cpu_seconds", "CPU s", "cpu_seconds"), ("number", "structures", "structures")):
        columns = min(4, len(groups))
        lines = -(-len(groups) // columns)
        figure = Figure(figsize=(3.6 * columns, 2.9 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False)
        for panel in panels.flat[len(groups) :]:
            panel.set_axis_off()
        for panel, (formula, runs) in zip(panels.flat, groups.items(), strict=False):
            lowest = min((row["lowest"] for of in runs.values() for row in of if row["lowest"] is not None), default=0)
            known = yardstick.lowest_known(formula)
            for name, of in runs.items():
                for count, row in enumerate(of):
                    places = [place[quantity] for place in row["history"]] + [row[end]]
                    energies = [1000 * (place["energy"] - lowest) for place in row["history"]]
                    style = {"color": colors[name], "label": name if count == 0 else "_", "lw": 1.2}
                    panel.step(places, [*energies, *energies[-1:]], where="post", **style) if energies else None
            for energy, line, what in ((known, "--", "known"), (yardstick.lowest_published(formula), ":", "published")):
                if energy is not None:
                    panel.axhline(1000 * (energy - lowest), color="black", ls=line, lw=0.8, label=what)
            panel.set_title(formula, fontsize=10)
            panel.set_ylim(min(-10, 1000 * ((known or lowest) - lowest) - 10), 400)
            panel.set_xlabel(label)
            panel.legend(fontsize=6)
        figure.supylabel("meV/atom above our lowest")
        figure.savefig(output.with_name(f"{output.stem}_{end.split('_')[0]}.png"), dpi=130)


def _of(rows: Sequence[Row], formula: str, name: str) -> list[Row]:
    wanted = (formula, name)
    return [row for row in rows if (row["formula"], row["recipe"]) == wanted and row["structures"]]


def _heading(found: dict[str, Any], settings: dict[str, Any]) -> str:
    """What was run, and what was not."""
    budget = f"{settings['hours']:g} h" if settings["structures"] is None and settings["hours"] else ""
    budget = budget or f"{settings['structures'] or 200} structures"
    wall = any(row["cpu_is_wall"] for row in found["runs"])
    known = any(found["yardstick"].values())
    return (
        f"Last tier {settings['final']}, at most {settings['max_atoms']} atoms, {budget} per run; "
        f"{settings['runs_finished']} of {settings['runs_planned']} runs finished, {settings['runs_begun']} begun"
        f" ({found['written']}). `{found['command']}`"
        + ("" if known else "\n\nThere is no yardstick of this tier: run with --yardstick, or name --data.")
        + ("\n\nSome tiers have no CPU time; their wall time is taken." if wall else "")
    )


def _grid(names: Sequence[str], cell: Callable[[str, str], str]) -> str:
    """A table of compounds and recipes; recipes without any entry are left out."""
    cells = {(name, recipe): cell(name, recipe) for name in names for recipe in RECIPES}
    recipes = [recipe for recipe in RECIPES if any(cells[name, recipe] != "-" for name in names)]
    lines = [["compound", *recipes], ["---"] * (1 + len(recipes))]
    lines += [[name, *(cells[name, recipe] for recipe in recipes)] for name in names]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _time(values: dict[str, float | None] | None) -> str:
    if values is None:
        return "-"
    both = [
        f"{values[key]:.1f} s" + _number(values[f"{key}_times_as_fast"], ", {:.2f}x", "") for key in ("tiers", "all")
    ]
    return both[0] if both[0] == both[1] else f"{both[0]} ({both[1]})"


def _lowest(values: dict[str, Any], recipe: str) -> str:
    if recipe not in values["ours"]:
        return "-"
    paper = (values["paper_pbe"] or {}).get(recipe)
    runs = len(values["runs"][recipe])
    return f"{values['ours'][recipe]:.4f}" + _number(paper, " ({:.2f})", "") + (f", {runs} runs" if runs > 1 else "")


def _gain(values: dict[str, Any] | None) -> str:
    if values is None or values["mean"] is None:
        return "-"
    return f"{values['mean']:.0f} ({values['largest']:.0f}); {values['improved']} of {values['runs']}"


def _against(names: Sequence[str], lowest: dict[str, Any]) -> str:
    """Our lowest energy against the known and the published structures in the same tier."""
    lines = [["compound", "ours", "known structure", "best published", "ours above known", "ours above published"]]
    lines.append(["---"] * len(lines[0]))
    for name in names:
        values = lowest[name]
        numbers = [_number(values[key], "{:.4f}", "no yardstick") for key in ("lowest", "known", "published")]
        above = [_above(values[key]) for key in ("mev_above_known", "mev_above_published")]
        lines.append([name, *numbers, *above])
    return "Against the reference structures in the same tier (eV/atom; differences meV/atom):\n\n" + "\n".join(
        "| " + " | ".join(line) + " |" for line in lines
    )


def _above(mev: float | None) -> str:
    if mev is None:
        return "-"
    word = "equal" if abs(mev) <= 1000 * SAME else "above" if mev > 0 else "below"
    return f"{mev:+.0f} ({word})"


def _origins(rows: Sequence[Row]) -> str:
    """Where the lowest structure of every run comes from."""
    head = ["run", "lowest (eV/atom)", "space group", "atoms", "found as structure", "by", "structures", "CPU s"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        if not row["history"]:
            continue
        best = row["history"][-1]
        run = f"{row['formula']} {row['recipe']} {row['seed']}" + ("" if row["status"] == "finished" else " (going on)")
        lines.append(
            [
                run,
                f"{best['energy']:.4f}",
                *(str(best[key]) for key in ("space_group", "n_atoms", "number", "by")),
                str(row["structures"]),
                f"{row['cpu_seconds']:.0f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None, text: str, otherwise: str = "-") -> str:
    return otherwise if value is None else text.format(value)
