"""Measurements beside other servers: ratios taken within one run. Never part of the tests, see README.md."""
