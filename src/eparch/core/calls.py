"""Every endpoint as a value: the server registers a handler for it, a client makes a ``Call`` of it.

Paths, bodies, answers and status codes are here and nowhere else (wire section 3). Each family has its module
in ``core.endpoints``; a module that is new is one line more below.
"""

# ruff: noqa: F403 - what a family defines is what this module has

from __future__ import annotations

from typing import Any

from eparch.core.endpoint import CLAIM_HEADER as CLAIM_HEADER
from eparch.core.endpoint import Call as Call
from eparch.core.endpoint import Endpoint as Endpoint
from eparch.core.endpoints.action_templates import *
from eparch.core.endpoints.artifacts import *
from eparch.core.endpoints.automations import *
from eparch.core.endpoints.backfills import *
from eparch.core.endpoints.blocks import *
from eparch.core.endpoints.concurrency import *
from eparch.core.endpoints.deploying import *
from eparch.core.endpoints.deployments import *
from eparch.core.endpoints.events import *
from eparch.core.endpoints.explaining import *
from eparch.core.endpoints.flow_runs import *
from eparch.core.endpoints.flows import *
from eparch.core.endpoints.inputs import *
from eparch.core.endpoints.logs import *
from eparch.core.endpoints.observing import *
from eparch.core.endpoints.root import *
from eparch.core.endpoints.saved_searches import *
from eparch.core.endpoints.service_levels import *
from eparch.core.endpoints.states import *
from eparch.core.endpoints.task_runs import *
from eparch.core.endpoints.task_workers import *
from eparch.core.endpoints.variables import *
from eparch.core.endpoints.work_pools import *
from eparch.core.endpoints.work_queues import *
from eparch.core.endpoints.worker_instances import *

ENDPOINTS: tuple[Endpoint[Any], ...] = tuple(
    value for value in globals().copy().values() if isinstance(value, Endpoint)
)
"""All of them."""
