"""Run a LaunchPad's jobs and die, as by ``kill -9``, at the n-th time a point is reached: FILE POINT N."""

import sys

from crash_points import die_at
from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import rapidfire

from fuse_flows.store.processes import worker_name

FILE, POINT, TIMES = sys.argv[1], sys.argv[2], int(sys.argv[3])

die_at(POINT, TIMES)
rapidfire(LaunchPad.from_file(FILE), FWorker(worker_name()), sleep_time=1, strm_lvl="ERROR")
