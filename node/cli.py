"""The command line: a table of verbs, each loaded when used, and the one edge where errors end."""

import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from types import FrameType
from typing import Any

import click

from node import render
from node.commands.session import Flags, Session, Terminated, global_options
from p2pllm.errors import LocalError, P2pllmError

VERBS: dict[str, tuple[str, str]] = {
    "up": ("daemon:up", "Start the node."),
    "down": ("daemon:down", "Stop the node."),
    "status": ("status:status", "How the node is doing."),
    "doctor": ("doctor:doctor", "Check this machine, with a fix for what is wrong."),
    "id": ("status:identity", "Who this node is."),
    "peers": ("peers:peers", "Other nodes."),
    "base": ("base:base", "Whole models that adapters stand on."),
    "derive": ("derive:derive", "Build a smaller model for a place from one above it."),
    "block": ("block:block", "Smaller models cut out of a base."),
    "tune": ("learn:tune", "Fine-tune an adapter on your own text."),
    "distill": ("teach:distill", "Teach a smaller model what a larger one knows."),
    "transfer": ("transfer:transfer", "Carry what a model learnt to the place above or below."),
    "merge": ("files:merge", "Make one adapter out of several."),
    "quantise": ("files:quantise", "Make a base smaller, and measure what it costs."),
    "export": ("files:export", "Write a model for other tools: GGUF, safetensors."),
    "learn": ("stream:learn", "Go on learning from text that keeps coming."),
    "eval": ("learn:evaluate", "Measure a model on text."),
    "push": ("push:push", "Publish a model."),
    "search": ("find:search", "Find models of other nodes."),
    "recommend": ("advise:recommend", "Which model fits this device and your task best."),
    "ask": ("ask:ask", "Say in plain words what you need; get a recommendation."),
    "profile": ("advise:profile", "What this device is, and how fast it runs models."),
    "show": ("find:show", "All about one model."),
    "pull": ("pull:pull", "Fetch a model, verified piece by piece."),
    "ls": ("models:ls", "Models of this node."),
    "rm": ("models:rm", "Remove models from this node."),
    "store": ("store:store", "The disk that models take."),
    "trust": ("trust:trust", "What this node thinks of others, and why."),
    "quarantine": ("quarantine:quarantine", "Who and what is shut out."),
    "evidence": ("evidence:evidence", "Evidence as a file that checks itself."),
    "follow": ("places:follow", "Hear, judge and serve the updates of a place."),
    "tree": ("places:tree", "The places of the swarm, under one master."),
    "jobs": ("jobs:jobs", "Long work, under way and past."),
    "demo": ("meta:demo", "See it all work, on this machine alone."),
    "completion": ("meta:completion", "A completion script for your shell."),
    "version": ("meta:version", "Which version this is."),
    "help": ("meta:help_", "Explain a verb or an error code."),
}
"""Verb -> (module of node.commands and its name there, what it does in a line)."""


class LazyGroup(click.Group):
    """Verbs that are imported only when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of this name."""
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name][0].partition(":")
        found = getattr(import_module(f"node.commands.{module}"), name)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb, or an error that names the nearest one."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"no verb {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without loading a verb."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])


def _version_option() -> click.Option:
    def tell(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
        if asked and not ctx.resilient_parsing:
            from node.commands.meta import our_version

            click.echo(our_version())
            ctx.exit()

    line = "The version alone."
    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=tell, help=line
    )


@click.group(
    cls=LazyGroup,
    name="p2pllm",
    invoke_without_command=True,
    params=[*global_options(), _version_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.pass_context
def root(ctx: click.Context) -> None:
    """Find, share and fine-tune small language models with other people, with no server."""
    if ctx.invoked_subcommand is None:
        from node.commands.status import greet

        flags = ctx.find_object(Flags)
        assert flags is not None
        greet(Session(flags))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status is that of docs/errors.md."""
    if argv is None:
        _as_process()
    args = list(sys.argv[1:] if argv is None else argv)
    flags = Flags()
    try:
        status = root.main(args, prog_name="p2pllm", standalone_mode=False, obj=flags)
        return status if isinstance(status, int) else 0
    except Terminated:
        return _fail(flags, LocalError("E1001", "terminated"), 143)
    except (click.Abort, KeyboardInterrupt):
        return _fail(flags, LocalError("E1001", "interrupted"), 130)
    except click.ClickException as wrong:
        flags.json = flags.json or "--json" in args
        return _fail(flags, _usage(wrong))
    except P2pllmError as error:
        if flags.debug:
            _traceback()
        return _fail(flags, error)
    except BrokenPipeError:
        sys.stderr.close()  # what read our output is gone; say nothing more about it
        return 141
    except Exception as error:  # noqa: BLE001  the edge of the process: no traceback unasked
        if flags.debug:
            _traceback()
        from p2pllm.durable import file_fault

        return _fail(flags, file_fault(error) or _unexpected(error))


def _as_process() -> None:
    """SIGTERM ends a verb as tidily as Ctrl-C; a terminal that lacks a character gets an escape."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends us at once
    raise Terminated


def _usage(wrong: click.ClickException) -> LocalError:
    context = getattr(wrong, "ctx", None)
    path = context.command_path if context else "p2pllm"
    return LocalError("E0204", wrong.format_message(), fix=[f"{path} --help"])


def _unexpected(error: Exception) -> LocalError:
    text = f"{type(error).__name__}: {error}"
    return LocalError("E0101", "p2pllm failed", why=[text], fix=["again with --debug, and report"])


def _traceback() -> None:
    import traceback

    click.echo(traceback.format_exc(), err=True)


def error_card(error: P2pllmError) -> dict[str, Any]:
    """An error as JSON: docs/errors.md."""
    from p2pllm.error_codes import usual_fix

    status = getattr(error, "exit", None)  # of the daemon, or of a signal
    kind = getattr(error, "kind", type(error).__name__)
    return {
        "code": error.code,
        "kind": kind,
        "message": error.message,
        "why": list(error.why),
        "fix": list(error.fix) or usual_fix(error.code),
        "exit": status if isinstance(status, int) else int(error.code[1:3]),
        "details": error.details,
    }


def _fail(flags: Flags, error: P2pllmError, status: int | None = None) -> int:
    card = error_card(error)
    if status is not None:
        card["exit"] = status
    if flags.json:
        event: dict[str, object] = {"event": "error"} if flags.long else {}
        if flags.long and "job" in error.details:
            event["job"] = error.details["job"]
        schema = "p2pllm.event/1" if flags.long else "p2pllm.error/1"
        with suppress(OSError):  # whoever reads our output left, or has no room for it
            Session(flags).emit({**event, "error": card}, schema)
            sys.stdout.flush()
    else:
        lines = [error.message] if status else render.error_lines(card)
        click.echo("\n".join(lines), err=True)
    return int(card["exit"])


if __name__ == "__main__":
    sys.exit(main())
