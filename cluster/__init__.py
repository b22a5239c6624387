"""The engine: plans a run, leases its items to workers, and commits one record for each.

It knows a scorer of items (:mod:`originality.contract.scorer`) and nothing of what is scored.
"""

import os

# Ray reads these when it is imported, so they are set here, before any module of this package imports it.
for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns that a later version will behave so
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # hides the raylet's messages; the driver reports deaths itself
}.items():
    os.environ.setdefault(_name, _value)
if "RAY_ADDRESS" in os.environ:
    # ray.init() reads RAY_ADDRESS itself, so it is normalised in the environment: Ray keeps blanks around an
    # address, and "local" is Ray's name for a Ray started on this machine.
    os.environ["RAY_ADDRESS"] = os.environ["RAY_ADDRESS"].strip()
    if os.environ["RAY_ADDRESS"] == "local":
        del os.environ["RAY_ADDRESS"]
