"""Running a recipe: stages in order, in a folder, so that a run can be resumed."""

from tfprune.pipeline.check import check
from tfprune.pipeline.compress import Job, Result, carry_out, compress, prepare

__all__ = ["Job", "Result", "carry_out", "check", "compress", "prepare"]
