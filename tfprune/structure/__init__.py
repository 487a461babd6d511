"""Channels, attention heads, neurons and residual blocks removed, and the result verified."""
