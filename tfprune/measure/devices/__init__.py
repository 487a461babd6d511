"""Where a file is timed: this machine, an Android device, another computer."""
