"""How a collection is judged: plan, lease, work, commit. Generic: an item in, one record out."""

import os

# Ray reads these when it is imported, so they are set before any module here imports it.
for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning of what a later Ray will do
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # raylet's messages on stdout: our own line tells of deaths
}.items():
    os.environ.setdefault(_name, _value)
if "RAY_ADDRESS" in os.environ:
    os.environ["RAY_ADDRESS"] = os.environ["RAY_ADDRESS"].strip()  # else Ray would keep blanks around it
    if os.environ["RAY_ADDRESS"] == "local":  # Ray's word for none
        del os.environ["RAY_ADDRESS"]
