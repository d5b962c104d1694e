"""Which Nova and Placement the cloud has: those beside this Python, or those of an older release elsewhere.

NOVA_PYTHON is the Python of that environment; "make test-e2e RELEASE=2025.1" makes one. Keystone, Glance and
the ``openstack`` command are always those beside this Python.
"""

import os
import subprocess
import sys
from pathlib import Path

PYTHON = Path(os.environ.get("NOVA_PYTHON") or sys.executable)
BIN = PYTHON.parent
"""Where the programs of Nova are."""
ETC = BIN.parent / "etc"
_VERSION = [str(PYTHON), "-c", "import importlib.metadata; print(importlib.metadata.version('nova'))"]
NOVA = int(subprocess.run(_VERSION, capture_output=True, text=True, check=True).stdout.partition(".")[0])
"""The major version: 31 is 2025.1."""

MICROVERSION = "2.96" if NOVA >= 29 else "2.95"
"""Of the compute API: what the tests use, or the newest that this Nova has."""
COMPUTE_API = (
    "nova.wsgi.osapi_compute:application" if NOVA >= 31 else "nova.api.openstack.compute.wsgi:init_application()"
)
PLACEMENT_API = "placement.wsgi.api:application" if NOVA >= 31 else "placement.wsgi:init_application()"
ENVIRONMENT = {} if NOVA >= 33 else {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"}
"""For the API of a Nova that otherwise runs under eventlet: the tests serve it with threads."""
QUOTA = (
    {"driver": "nova.quota.UnifiedLimitsDriver", "unified_limits_resource_list": ""}
    if NOVA >= 32
    # Below 31 there is no list of resources that need a limit, so all do; with oslo.limit of 2025.1 no server is made:
    # it takes the length of a generator.
    else {"driver": "nova.quota.DbQuotaDriver"}
)
