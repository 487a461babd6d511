"""Child processes: jobs run where a crash or a hang cannot hurt the caller."""
