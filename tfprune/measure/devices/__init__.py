"""Devices that time a file: this machine, Android, a remote machine."""
