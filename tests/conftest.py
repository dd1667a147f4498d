"""Hypothesis profiles, for every test that draws examples: `pytest --hypothesis-profile=ci`, or HYPOTHESIS_PROFILE=ci.

- dev: fifty examples a test; what runs when nobody says anything
- ci: two hundred; like dev the same ones every time, and a failure prints what repeats it
- soak: ten thousand, other ones every time; overnight
"""

import os

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # an installation without the extra `dev`: tests that draw examples are not collected there
    settings = None

if settings is not None:
    # Numba compiles, kernels accept few of the samples, and some draws try until their sample fits.
    slow, picky = HealthCheck.too_slow, HealthCheck.filter_too_much
    quiet = [slow, picky, HealthCheck.data_too_large, HealthCheck.large_base_example]
    common = {"deadline": None, "database": None, "print_blob": True, "suppress_health_check": quiet}
    settings.register_profile("dev", max_examples=50, derandomize=True, **common)
    settings.register_profile("ci", max_examples=200, derandomize=True, **common)
    settings.register_profile("soak", max_examples=10_000, **common)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
