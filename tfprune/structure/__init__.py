"""Channels, heads, neurons and blocks really removed, with proof."""
