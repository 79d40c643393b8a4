"""ASE's EMT that takes its time, so that a search outlives an allocation on any machine."""

import os
import time

from ase.calculators.emt import EMT


class SlowEMT(EMT):
    """EMT that sleeps for SLOW_EMT_SECONDS before each calculation, and counts them."""

    calls = 0

    def calculate(self, *args, **kwargs):
        """Sleep, then calculate."""
        SlowEMT.calls += 1
        time.sleep(float(os.environ.get("SLOW_EMT_SECONDS", "0")))
        super().calculate(*args, **kwargs)
