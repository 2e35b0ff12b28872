"""One function over many units: here, in processes, on Ray, or a share of them on each of many machines."""

from speechkit.jobs.pieces import MANIFEST, Done, Piece, Walk, cut
from speechkit.jobs.run import Executor, JobsFailed, run_jobs
from speechkit.jobs.shard import Shard
from speechkit.jobs.unit import Interrupted, Work

__all__ = [
    "MANIFEST",
    "Done",
    "Executor",
    "Interrupted",
    "JobsFailed",
    "Piece",
    "Shard",
    "Walk",
    "Work",
    "cut",
    "run_jobs",
]
