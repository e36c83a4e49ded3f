"""The whole: builds every part, hands each what it needs, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
from hypercorn.asyncio import serve as serve_http
from hypercorn.config import Config
from quart import Blueprint, Response

from appliance import __version__, auth, telemetry
from appliance.auth import parts as auth_parts
from appliance.auth.secrets import open_secrets
from appliance.backfill.backfill import Backfill
from appliance.clock import Clock, SystemClock
from appliance.config import Settings
from appliance.errors import BadInput, NotFound, Unavailable
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier
from appliance.ingest.merge import Rules
from appliance.ingest.pipeline import Pipeline
from appliance.media.images import Images
from appliance.members import admission
from appliance.ops.lock import DataLock
from appliance.ops.probes import probes
from appliance.outbound.client import Outbound
from appliance.outbound.limits import BLOB
from appliance.protocol import lexicons
from appliance.store import repos
from appliance.store.database import Database
from appliance.supervisor import Supervisor
from appliance.timeline import labelers
from appliance.timeline.views import Views
from appliance.web.pages import Frame
from appliance.web.reading import Pages
from appliance.web.security import Guard
from appliance.web.site import site
from appliance.web.writing import Writing
from appliance.xrpc import admin, asgi, private, reads
