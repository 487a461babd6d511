"""Zeros that hold while the model trains: score, pattern, allocation, schedule, holding."""
