"""One run of a command: its settings, its output, and its end as an exit code."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer

from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.config.namespaces import EVERY_NAMESPACE
from nano_graphrag_redis.config.sources import Origin, read
from nano_graphrag_redis.exceptions import StorageError
from nano_graphrag_redis.printable import visible

from .arguments import OF_EVERY_COMMAND, Json
from .exit_codes import Exit, exit_of
from .log_output import told_once, untold
from .output import Output


class Session:
    """One run of a command.

    Attributes:
        output: Where it says things.
        config: The settings: of the options, then of the environment.
        metrics_dir: Where the service's processes write what they count; None if nowhere.
    """

    def __init__(self, output: Output, options: dict[str, str | None]) -> None:
        self.output = output
        found = read(RedisConfig.model_fields, {}, os.environ)
        for option, value in options.items():
            if value is not None:
                setting = (OF_EVERY_COMMAND[option][0],)
                found.put(setting, value, Origin(f"--{option}", "command line"))
        config = RedisConfig(found.origins, **found.values)
        # What the command itself does is none of the service's figures.
        self.config = config.model_copy(update={"redis_metrics_dir": None})
        self.metrics_dir = Path(config.redis_metrics_dir) if config.redis_metrics_dir else None

    @property
    def where(self) -> str:
        """The server and the workspace, for titles, and what is not of that workspace alone."""
        workspace, shared = self.config.redis_workspace, self.config.redis_shared_namespaces
        others = f" (of all workspaces: {', '.join(sorted(shared))})" if shared else ""
        return self._at(workspace and f"workspace {workspace}{others}")

    def where_is(self, namespace: str) -> str:
        """The server and the workspace of a namespace, for questions."""
        if namespace in self.config.redis_shared_namespaces:
            return self._at("of all workspaces")
        workspace = self.config.redis_workspace
        return self._at(workspace and f"workspace {workspace}")

    def _at(self, workspace: str) -> str:
        return visible(", ".join(filter(None, (str(self.config.redis_url), workspace))))

    @property
    def bare(self) -> RedisConfig:
        """The settings under which a failure is seen and nothing is done beside what is asked."""
        return self.config.model_copy(
            update={
                "redis_outage_policy": {EVERY_NAMESPACE: "raise"},
                "redis_near_cache_mb": 0,
                "redis_ttl_sliding": False,  # nobody has asked for these values
                "redis_durability": "ack",
                "redis_dual_write": False,
                "redis_tracing": "off",
                "working_dir": None,
            }
        )

    @property
    def looking(self) -> RedisConfig:
        """The same for what only looks: whoever lists the ids of a registry mends it on the way."""
        return self.bare.model_copy(update={"redis_registry": False})


def command(body: Callable[..., Exit | None]) -> Callable[..., None]:
    """A command of ``body``, whose first parameter is the session and the rest its own options.

    The options that all commands share are added; what goes wrong becomes a sentence and a code.
    """
    own = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
    shared = {name: kind for name, (_, kind) in OF_EVERY_COMMAND.items()} | {"json": Json}

    @functools.wraps(body)
    def run(**given: Any) -> None:
        output = Output(as_json=given.pop("json"))
        where = {name: given.pop(name) for name in OF_EVERY_COMMAND}
        # It is for whoever brings data to the server; doctor has it as a finding.
        news = body.__name__ == "migrate"
        ended = _ended(output, lambda: body(Session(output, where), **given), at_risk_is_news=news)
        raise typer.Exit(ended)

    parameters = [
        *own,
        *(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if name == "json" else None,
                annotation=kind,
            )
            for name, kind in shared.items()
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__doc__ = "\n\n".join(
        " ".join(paragraph.split()) for paragraph in (inspect.getdoc(body) or "").split("\n\n")
    )
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _ended(output: Output, body: Callable[[], Exit | None], *, at_risk_is_news: bool) -> Exit:
    try:
        with told_once(), nullcontext() if at_risk_is_news else untold("server_at_risk"):
            return body() or Exit.OK
    except (KeyboardInterrupt, typer.Abort):  # the second one: at a question
        output.say("interrupted", "yellow")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # What is left in the buffer has nowhere to go either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.PIPE
    except (StorageError, OSError) as error:
        output.refuse(error)
        return exit_of(error)
