"""One run of the command line: its global flags, where its output goes, and the daemon it asks.

Data goes to stdout, advice to stderr. With --json stdout holds JSON alone.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import click

from node import config, render
from node.client import Client, Document

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h)?")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


class Terminated(BaseException):
    """SIGTERM came."""


@dataclass
class Flags:
    """The global flags as typed so far, before or after the verb."""

    json: bool = False
    quiet: bool = False
    yes: bool = False
    debug: bool = False
    no_color: str | None = None
    home: str | None = None
    api: str | None = None
    timeout_s: float | None = None
    long: bool = False  # the verb reports events, so an error is one too


class Session:
    """What a verb is given beside its own arguments."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.json = flags.json
        self.quiet = flags.quiet

    @cached_property
    def home(self) -> Path:
        """The node's folder."""
        return config.home_dir(self.flags.home)

    @cached_property
    def api(self) -> Path:
        """The daemon's control socket."""
        if self.flags.api:
            return Path(self.flags.api).expanduser().absolute()
        return config.Config(home=self.home).api

    def client(self, patience_s: float = 30.0) -> Client:
        """The daemon; a request without an answer for `patience_s`, or --timeout, fails."""
        return Client(self.api, self.flags.timeout_s or patience_s, self.say)

    @property
    def may_ask(self) -> bool:
        """A person is there to answer a question."""
        return not self.json and sys.stdin.isatty() and sys.stderr.isatty()

    def write(self, lines: Iterable[str]) -> None:
        """Data for people or scripts, on stdout."""
        self._echo(lines, sys.stdout)

    def say(self, lines: str | Iterable[str]) -> None:
        """Advice and news, on stderr; nothing with -q."""
        if not self.quiet:
            self._echo([lines] if isinstance(lines, str) else lines, sys.stderr)

    def _echo(self, lines: Iterable[str], file: IO[str]) -> None:
        for line in lines:
            click.echo(line, file=file, color=False if self.flags.no_color else None)

    def emit(self, document: Document, schema: str) -> None:
        """One JSON document on one line; ASCII, so that nothing in it can steer a terminal."""
        click.echo(json.dumps({"schema": schema, **document}, separators=(",", ":")))

    def show(
        self,
        document: Document,
        schema: str,
        human: Callable[[Document], Iterable[str]],
        ids: Callable[[Document], Iterable[str]] | None = None,
    ) -> None:
        """A document the way it was asked for: JSON, ids alone (-q), or for people."""
        if self.json:
            self.emit(document, schema)
        elif self.quiet and ids:
            self.write(ids(document))
        else:
            self.write(human(document))


class Duration(click.ParamType[float]):
    """'30', '30s', '2m', '1h': seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds out of what was typed."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value).strip())
        if not match or float(match[1]) <= 0:
            self.fail(f"{value!r} is not a time such as 30s, 2m or 1h", param, ctx)
        return float(match[1]) * _UNIT_S[match[2]]


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value and param.name:
        setattr(ctx.find_object(Flags), param.name, value)


def global_options() -> list[click.Option]:
    """The flags every verb takes, before or after its name."""

    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_remember, **settings)

    return [
        option("--json", is_flag=True, help="Write JSON alone to stdout."),
        option("-q", "--quiet", is_flag=True, help="Write ids alone; no news, no advice."),
        option("-y", "--yes", is_flag=True, help="Answer every question with yes."),
        option("--home", metavar="DIR", help="The node's folder [$P2PLLM_HOME]."),
        option("--api", metavar="SOCKET", help="The daemon's control socket [HOME/run/api.sock]."),
        option("--timeout", "timeout_s", type=Duration(), help="Give up when nothing moved."),
        option(
            "--no-color",
            "no_color",
            is_flag=True,
            flag_value="1",
            default=None,
            type=str,
            envvar="NO_COLOR",
            help="No colours [$NO_COLOR].",
        ),
        option("--debug", is_flag=True, help="Show where an error comes from."),
    ]


class Verb(click.Command):
    """A command that takes the global flags too, and whose function is given the session."""

    def __init__(self, *args: Any, long: bool = False, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.long = long
        self.own = [param for param in self.params if isinstance(param, click.Option)]
        self.params += global_options()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, knowing already how an error must look."""
        flags = ctx.find_object(Flags)
        if flags and self.long:
            flags.long = True
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb with its session."""
        flags = ctx.find_object(Flags)
        assert flags is not None
        ctx.params["session"] = Session(flags)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verb's own options, and the global ones in one line."""
        rows = [row for param in self.own if (row := param.get_help_record(ctx))]
        if rows:
            with formatter.section("Options"):
                formatter.write_dl(rows)
        names = [param.opts[0] for param in global_options()]
        with formatter.section("Everywhere"):
            formatter.write_text(" ".join(names))


def verb(long: bool = False, **settings: Any) -> Callable[[Callable[..., Any]], Verb]:
    """Make a function taking `session` and its own arguments into a verb.

    `long`: it reports events, and its errors are events too.
    """

    def make(function: Callable[..., Any]) -> Verb:
        return click.command(cls=Verb, long=long, **settings)(function)

    return make


def verbs(
    name: str, help_: str, members: Sequence[click.Command], default: Verb | None = None
) -> click.Group:
    """A verb made of verbs; `default` runs where none is named."""

    def alone(ctx: click.Context) -> None:
        if ctx.invoked_subcommand is None and default is not None:
            with default.make_context(default.name, [], parent=ctx) as inner:
                default.invoke(inner)

    return click.Group(
        name,
        {str(member.name): member for member in members},
        help=help_,
        params=[*global_options()],
        callback=click.pass_context(alone),
        invoke_without_command=default is not None,
        no_args_is_help=default is None,
    )


def complete_refs(ctx: click.Context, param: click.Parameter, incomplete: str) -> Sequence[str]:
    """Names of models on this node, for shell completion; none without a daemon."""
    from p2pllm.errors import P2pllmError

    session = Session(ctx.find_object(Flags) or Flags(home=ctx.params.get("home")))
    try:
        models = Client(session.api, 1.0).get("models").get("models", [])
    except P2pllmError:
        return []
    refs = [f"{model.get('place')}/{model.get('name')}" for model in models]
    return sorted({ref for ref in refs if ref.startswith(incomplete) and render.clean(ref) == ref})
