"""One TaskDoc for all stages of a relaxation, as atomate2 makes one of a double relaxation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emmet.core.tasks import TaskDoc


def merged_document(stages: Sequence[TaskDoc], first: int, *, label: str, keep_steps: bool) -> dict[str, Any]:
    """Put the documents of successive stages together.

    Parameters
    ----------
    stages
        Documents of the stages, in order; at least one.
    first
        Number of the first of them, from 0.
    label
        The ``task_label``.
    keep_steps
        Keep all ionic steps, which may come near the 16 MB of a MongoDB document; else the last of each stage.

    Returns
    -------
    dict
        A :class:`emmet.core.tasks.TaskDoc` as plain values: output, state and structure of the last stage, input of
        the first, and one entry in ``calcs_reversed`` for each, the last stage first.
    """
    from emmet.core.tasks import AnalysisDoc
    from monty.json import jsanitize

    calculations = []
    for number, stage in enumerate(stages, start=first + 1):
        for calculation in stage.calcs_reversed or ():
            calculation.task_name = f"relax{number}"
            if not keep_steps:
                calculation.output.ionic_steps = calculation.output.ionic_steps[-1:]
            calculations.append(calculation)
    calculations.reverse()
    merged = stages[-1].model_copy(
        update={
            "calcs_reversed": calculations,
            "analysis": AnalysisDoc.from_vasp_calc_docs(calculations),
            "input": stages[0].input,
            "orig_inputs": stages[0].orig_inputs,
            "custodian": [entry for stage in stages for entry in stage.custodian or ()],
            "run_stats": {
                f"relax{number}": stats
                for number, stage in enumerate(stages, start=first + 1)
                for stats in (stage.run_stats or {}).values()
            },
            "task_label": label,
            "vasp_objects": None,
            "included_objects": None,
        }
    )
    return jsanitize(merged, strict=True, enum_values=True, allow_bson=True)
