"""About p2pllm itself: `demo`, `completion`, `version`, `help`."""

from importlib import import_module

import click

from node.commands.session import Flags, Session, verb
from p2pllm.errors import LocalError


@click.command(
    name="demo",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo(ctx: click.Context, args: tuple[str, ...]) -> int:
    """See it all work, on this machine alone."""
    flags = ctx.find_object(Flags)
    assert flags is not None
    argv = [*(["--json"] if flags.json and "--json" not in args else []), *args]
    flags.json = flags.long = "--json" in argv  # should it fail, its error is an event too
    status = import_module("node.demo").main(argv)
    ctx.exit(status if isinstance(status, int) else 0)
    return 0


SHELLS = ("bash", "zsh", "fish")


@verb(name="completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, session: Session, shell: str) -> None:
    """A completion script for SHELL; it completes the names of your models too.

    bash: p2pllm completion bash > ~/.local/share/bash-completion/completions/p2pllm
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "p2pllm", "_P2PLLM_COMPLETE").source()
    document = {"shell": shell, "script": script}
    session.show(document, "p2pllm.completion/1", lambda d: [str(d["script"])])


@verb(name="version")
def version(session: Session) -> None:
    """Which version this is, and on which Python."""
    import platform

    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    document = {"version": our_version(), "python": python, "platform": system}
    session.show(
        document,
        "p2pllm.version/1",
        lambda d: [f"p2pllm {d['version']} · Python {python} · {system}"],
        lambda d: [str(d["version"])],
    )


def our_version() -> str:
    """The installed version; 'source' where p2pllm runs without being installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("p2pllm")
    except PackageNotFoundError:
        return "source"


@verb(name="help")
@click.argument("topic", nargs=-1)
@click.pass_context
def help_(ctx: click.Context, session: Session, topic: tuple[str, ...]) -> None:
    """Explain an error CODE such as E0702, or a verb."""
    context = ctx.find_root()
    for word in topic:
        command = context.command
        inner = command.get_command(context, word) if isinstance(command, click.Group) else None
        if inner is None:
            _explain(session, " ".join(topic))
            return
        context = inner.make_context(word, [], parent=context, resilient_parsing=True)
    if topic == ("demo",):  # it reads its own arguments
        import_module("node.demo").main(["--help"])
        return
    document = {"topic": " ".join(topic), "text": context.get_help()}
    session.show(document, "p2pllm.usage/1", lambda d: [str(d["text"])])


def _explain(session: Session, topic: str) -> None:
    from p2pllm.error_codes import ERROR_CODES

    row = ERROR_CODES.get(topic.upper())
    if row is None:
        fix = ["p2pllm --help for the verbs", "docs/errors.md for the codes"]
        raise LocalError("E0204", f"neither a verb nor an error code: {topic}", fix=fix)
    document = {
        "code": row.code,
        "name": row.slug,
        "meaning": row.meaning,
        "fix": row.fix,
        "kind": row.kind,
        "exit": row.exit,
    }
    session.show(
        document,
        "p2pllm.help/1",
        lambda d: [
            f"{row.code} {row.slug}: {row.meaning}",
            f"fix     {row.fix}",
            f"status  {row.exit} ({row.kind})",
        ],
    )
