"""How fast ``move_policy: reinforce`` learns on a model of a search, by learning rate, against ``uniform``.

    python benchmarks/policy.py [--seeds 10] [--steps 2000]

The model has no crystals: 35 % of the relaxations fail, as many of the rest fall back to the structure they began with,
and the others go up or down, less often down the lower the walker stands. Two of the fourteen moves go down ten and six
times as often as the rest. The table and ``results/policy.json`` hold the probability of these two together (uniform:
1/7), mean and standard deviation over the seeds, how far below the first population the search came compared with
uniform, and the CPU time that drawing and learning take. It says which learning rate is worth having, not how a search
of crystals fares.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from time import process_time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np

from fuse_flows.config import MoveName, SearchConfig, make_config
from fuse_flows.search.judge import Evaluation, judge, start
from fuse_flows.search.policy import allowed_moves, probabilities
from fuse_flows.search.propose import Proposal

RESULTS = Path(__file__).parent / "results" / "policy.json"
FLOOR, TOP = -7.5, -6.0
GOOD = {MoveName.SWAP_ATOMS: 0.5, MoveName.DOUBLE_CELL: 0.3}
OTHERS = 0.05
CASES = (("uniform", 0.05), *(("reinforce", rate) for rate in (0.0005, 0.005, 0.02, 0.05, 0.1)))
MARKS = (200, 500, 1000, 2000)


def relaxed(move: MoveName, energy: float, rng: np.random.Generator) -> float | None:
    """Return the energy (eV/atom) that a move leads to in the model; None for a failure."""
    kind = rng.random()
    if kind < 0.35:
        return None
    if kind < 0.35 + 0.65 * 0.35:
        return energy
    downhill = rng.random() < GOOD.get(move, OTHERS) * (energy - FLOOR) / (TOP - FLOOR)
    return energy - rng.exponential(0.03) if downhill else energy + rng.exponential(0.3)


def walk(config: SearchConfig, steps: int) -> tuple[dict[int, float], float]:
    """Walk on the model; return the probability of the good moves at the marks, and the fall in eV/atom."""
    rng = np.random.default_rng(config.seed)
    first = [Evaluation(str(i), 0, i, "CONVERGED", TOP + rng.exponential(0.5), 2, {}) for i in range(25)]
    state = start(config, first)
    highest = state.best.energy_per_atom
    found = {}
    for step in range(1, steps + 1):
        names = allowed_moves(state, config)
        chances = probabilities(state, config, names)
        move = names[rng.choice(len(names), p=chances)]
        energy = relaxed(move, state.current.energy_per_atom, rng)
        outcome = "TOO_CLOSE" if energy is None else "CONVERGED"
        proposal = Proposal(str(step), 0, step, 0, "move", None, move=move)
        state = judge(state, [(proposal, Evaluation(str(step), step, 0, outcome, energy, 2, {}))], config).state
        if step in MARKS:
            found[step] = sum(chances[names.index(name)] for name in GOOD)
    return found, highest - state.best.energy_per_atom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--dry", action="store_true", help="Do not write the results file.")
    options = parser.parse_args()
    marks = [mark for mark in MARKS if mark <= options.steps]
    print(f"{'policy':>10} {'rate':>7} " + " ".join(f"after {mark:>5}  " for mark in marks) + "  fall/uniform  ms/step")
    rows: list[dict[str, object]] = []
    uniform = 1.0
    for policy, rate in CASES:
        values = {"formula": "MgO", "move_policy": policy, "reinforce": {"learning_rate": rate}}
        limits = {"stop": {"max_structures": 10**6, "patience": 10**6}}
        begun = process_time()
        walks = [walk(make_config(values | limits | {"seed": seed}), options.steps) for seed in range(options.seeds)]
        milliseconds = 1000 * (process_time() - begun) / (options.seeds * options.steps)
        fall = float(np.mean([depth for _, depth in walks]))
        uniform = uniform if rows else fall
        shares = {mark: [found[mark] for found, _ in walks] for mark in marks}
        rows.append(
            {
                "policy": policy,
                "learning_rate": rate if policy == "reinforce" else None,
                "probability_of_good_moves": {m: round(float(np.mean(share)), 4) for m, share in shares.items()},
                "standard_deviation": {m: round(float(np.std(share)), 4) for m, share in shares.items()},
                "fall_relative_to_uniform": round(fall / uniform, 3),
                "cpu_ms_per_step": round(milliseconds, 3),
            }
        )
        cells = "  ".join(f"{np.mean(share):.3f} +-{np.std(share):.3f}" for share in shares.values())
        print(f"{policy:>10} {rate:7} {cells}  {fall / uniform:8.3f}  {milliseconds:9.2f}", flush=True)
    if not options.dry:
        record = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seeds": options.seeds,
            "steps": options.steps,
            "rows": rows,
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
