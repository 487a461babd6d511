"""A recipe carried out: stages in order, in a folder that can be gone on with."""

from tfprune.pipeline.check import check
from tfprune.pipeline.compress import Job, Result, carry_out, compress, prepare

__all__ = ["Job", "Result", "carry_out", "check", "compress", "prepare"]
