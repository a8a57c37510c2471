"""`frostline operator`: the controller, in a cluster or beside one."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import kopf
import pydantic
from rich.console import Console

from frostline_operator.cluster.kubernetes.api import Api, ApiError
from frostline_operator.cluster.kubernetes.settings import OperatorSettings, load_settings
from frostline_operator.handlers.health import Health, serve
from frostline_operator.handlers.operator import Operator, make_registry


def run_operator(
    settings_file: Path | None,
    kubeconfig: Path | None,
    namespaces: list[str],
    image: str | None,
    cpu_slots: int | None,
    checkpoints: str | None,
    port: int,
    verbose: bool,
) -> int:
    """Run the controller until it is told to stop. Returns the exit code."""
    console = Console(stderr=True)
    try:
        settings: OperatorSettings = load_settings(
            settings_file,
            namespaces=namespaces or None,
            image=image,
            cpu_slots=cpu_slots,
            checkpoints=checkpoints,
        )
    except (OSError, pydantic.ValidationError) as error:
        console.print(f"{settings_file}: {error}", highlight=False)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("kopf").setLevel(logging.DEBUG if verbose else logging.WARNING)
    try:
        api = Api.connect(None if kubeconfig is None else str(kubeconfig))
    except ApiError as error:
        console.print(str(error), highlight=False)
        return 2
    health = Health(lambda: api.calls)
    server = serve(health, port)
    console.print(f"health and metrics on port {server.server_address[1]}", highlight=False)
    registry = make_registry(Operator(settings, api, health))
    asyncio.run(
        kopf.operator(
            registry=registry,
            standalone=True,
            namespaces=settings.namespaces,
            clusterwide=not settings.namespaces,
        )
    )
    return 0
