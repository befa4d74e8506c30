"""The continual job: one step on what is new in some text, in a learner's private folder.

Killed at any moment it is as if the step had not begun, but for a checkpoint of its training.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import save
from tokenizers import Tokenizer

from p2pllm import adapter, adapter_config, corpus, durable, learner, weights
from p2pllm.adapter_config import Config
from p2pllm.ids import ContentId, content_id
from p2pllm.jobs import Progress, TuneJob
from p2pllm.jobs_learn import ContinualJob, ContinualReport
from p2pllm.learn import (
    anchors,
    checkpoint,
    continual,
    delta,
    distill,
    generator,
    measure,
    memory,
    model,
    training,
    tune,
)
from p2pllm.learn import logits as kept_logits
from p2pllm.learn.checkpoint import State as Saved
from p2pllm.learn.continual import Continual, Pool, Settings
from p2pllm.learn.generator import Maker
from p2pllm.learn.logits import Asked, LogitCache
from p2pllm.learn.measure import Passages
from p2pllm.learner import ID_BYTES, State, Step
from p2pllm.privacy import Gate, Remembered

MOST_DIRECTIONS = 256  # of the parent, a module

Say = Callable[[Progress], None]


class News(msgspec.Struct, frozen=True):
    """What of the text is new, and what of it is only measured on."""

    train: list[str]
    held: list[str]  # new ones
    known: dict[str, str]  # every held-out document by its id


class Desk(msgspec.Struct, frozen=True):
    """What a step works with."""

    job: ContinualJob
    state: State
    news: News
    tokenizer: Tokenizer
    context: int
    dtype: torch.dtype
    estimate: int


def step(job: ContinualJob, say: Say) -> ContinualReport:
    """Take a step; it is the learner's head when this returns."""
    started = time.monotonic()
    folder, base_dir = Path(job.state_dir), Path(job.base_dir)
    (folder / "steps").mkdir(parents=True, exist_ok=True, mode=0o700)
    state = learner.read(folder)
    learner.tidy(folder, state)
    say(Progress(stage="read", message="reading the text"))
    news = _news(job, folder, state)
    tokenizer = model.load_tokenizer(base_dir)
    news, tokens = _portion(job, news, tokenizer)
    if tokens < max(job.min_tokens, job.seq + 1):
        return _nothing(state, tokens, time.monotonic() - started)
    dtype, config = model.compute_dtype(), model.load_config(base_dir)
    estimate = _require_memory(job, dtype)
    context = int(getattr(config, "max_position_embeddings", measure.WINDOW))
    desk = Desk(job, state, news, tokenizer, context, dtype, estimate)
    rows = training.blocks(tokenizer, news.train, tune.end_token(config), _as_tuning(job))
    torch.manual_seed(job.seed)
    tuned = _begin(desk, config)
    report = _take(desk, tuned, rows.rows, say)
    seconds = time.monotonic() - started
    return msgspec.structs.replace(report, seconds=seconds, peak_rss=memory.peak_bytes())


def basis(adapters: Sequence[tuple[delta.Delta, float]]) -> continual.Basis:
    """The directions that these changes read, a module: orthonormal columns, strongest first."""
    made = {}
    for module, factors in delta.stack(adapters).items():
        core = delta.core(factors)
        strong = core.values > 1e-6 * core.values[0]
        made[module] = core.right[:, strong][:, :MOST_DIRECTIONS].float()
    return made


def made_up(state_dir: Path, base_dir: Path) -> list[str]:
    """The texts of the pool: all that a learner has to hand on of what it read."""
    state = learner.read(state_dir)
    if not state.head or not state.step(state.head).shares:
        return []
    cache = LogitCache(learner.step_folder(state_dir, state.head) / learner.POOL_FILE)
    texts: list[str] = model.load_tokenizer(base_dir).decode_batch(cache.rows.tolist())
    return texts


def _news(job: ContinualJob, folder: Path, state: State) -> News:
    seen = learner.seen(folder, state)
    documents = corpus.read_docs([Path(path) for path in job.data])
    train: list[str] = []
    held: list[str] = []
    known: dict[str, str] = {}
    for document in documents:
        name = corpus.document_id(document)
        if corpus.is_held_out(document, job.held_out):
            known[name] = document
            if bytes.fromhex(name)[:ID_BYTES] not in seen:
                held.append(document)
        elif bytes.fromhex(name)[:ID_BYTES] not in seen:
            train.append(document)
    return News(train, held, known)


def _portion(job: ContinualJob, news: News, tokenizer: Tokenizer) -> tuple[News, int]:
    """As much new text as one step reads, and its tokens; the rest waits for the next."""
    tokens, train = 0, []
    for text in news.train:
        if tokens >= job.steps * job.batch * job.seq:
            break
        tokens += len(tokenizer.encode(text).ids)
        train.append(text)
    return msgspec.structs.replace(news, train=train), tokens


def _as_tuning(job: ContinualJob) -> TuneJob:
    """The same training without replay: what it takes of memory, which rows."""
    given = {"base_dir": job.base_dir, "data": job.data, "targets": job.targets, "seed": job.seed}
    given |= {"rank": job.rank, "alpha": job.alpha, "lr": job.lr, "steps": job.steps}
    given |= {"batch": job.batch, "seq": job.seq, "max_memory_bytes": job.max_memory_bytes}
    return TuneJob(out_dir=job.state_dir, **given)  # type: ignore[arg-type]


def _require_memory(job: ContinualJob, dtype: torch.dtype) -> int:
    """What a step will take: its training, and the keys and values of rows that are drawn."""
    base_dir = Path(job.base_dir)
    shape = model.shape_of(base_dir, model.load_config(base_dir))
    tokens = generator.AT_ONCE * (continual.OPENING + job.seq)
    drawing = tokens * shape.layers * 2 * shape.hidden * dtype.itemsize
    needed = tune.require_memory(_as_tuning(job), dtype) + drawing
    memory.require(needed, job.max_memory_bytes, "a step of learning")
    return needed


def _begin(desk: Desk, config: object) -> PeftModel:
    """The base with the head's adapter on it, ready to be trained."""
    job, base_dir = desk.job, Path(desk.job.base_dir)
    base = model.load_base(base_dir, config, desk.dtype)
    source = Path(job.begin_dir) if job.begin_dir else None
    if desk.state.head:
        source = learner.adapter_folder(Path(job.state_dir), desk.state.head)
    if source is None:
        return model.new_adapter(base, job.rank, job.alpha, list(job.targets))
    tuned = model.load_adapter(base, source, adapter.inspect(source, base_dir))
    for name, parameter in tuned.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    return tuned


def _take(desk: Desk, tuned: PeftModel, rows: torch.Tensor, say: Say) -> ContinualReport:
    job, folder = desk.job, Path(desk.job.state_dir)
    number = desk.state.last + 1
    work = learner.work_folder(folder)
    work.mkdir(parents=True, exist_ok=True)
    trained = Remembered(_bytes(folder / learner.RUNS_FILE))
    for text in desk.news.train:
        trained.add(text)
    durable.replace_file(folder / learner.RUNS_FILE, trained.to_bytes())
    fresh = _passages(desk, desk.news.held or desk.news.train)
    before, resumed_at = _train(desk, tuned, rows, fresh, say)
    after = measure.score(tuned, fresh, "measure", say).nats_per_token
    maker = Maker(tuned, desk.tokenizer, Gate(trained))
    pool, refused = continual.renew(_pool(desk), maker, rows, _settings(job), say)
    groups = anchors.with_new(desk.state.groups, number, desk.news.held)
    meters, groups = anchors.measure_all(
        tuned, groups, desk.news.known, partial(_passages, desk), say
    )
    data = _write(desk, tuned, work, pool)
    older = [one.now - one.best for one in meters if one.since != number]
    taken = Step(
        number=number,
        parent=desk.state.head,
        at=time.time(),
        documents=len(desk.news.train),
        train_tokens=job.steps * job.batch * job.seq,
        before=before,
        after=after,
        meters=meters,
        forgetting=sum(older) / len(older) if older else 0.0,
        shares=_shares(pool),
        seen=learner.add_seen(folder, desk.state, _ids(desk.news)),
        adapter=content_id(data),
    )
    learner.commit(folder, desk.state, taken, groups, job.keep)
    return ContinualReport(
        step=number,
        waiting_tokens=0,
        documents=taken.documents,
        train_tokens=taken.train_tokens,
        before=before,
        after=after,
        meters=meters,
        forgetting=taken.forgetting,
        pool_rows=0 if pool is None else len(pool.rows),
        refused=refused,
        adapter_bytes=len(data),
        seconds=0.0,
        resumed_at=resumed_at,
        dtype=model.dtype_name(desk.dtype),
        memory_estimate=desk.estimate,
        peak_rss=0,
    )


def _train(
    desk: Desk, tuned: PeftModel, rows: torch.Tensor, fresh: Passages, say: Say
) -> tuple[float, int]:
    """Train the step, from its checkpoint if there is one; the loss before, and where it began."""
    job, settings = desk.job, _settings(desk.job)
    penalty = _penalty(job)
    work = Continual(tuned, rows, _pool(desk), settings, penalty)
    folder, job_id = learner.work_folder(Path(job.state_dir)), _job_id(desk, rows)
    found = checkpoint.read(folder, job_id)
    if found is None:
        base = measure.score(tuned, fresh, "measure-before", say)
        found = Saved(job=job_id, step=0, base=base, measure_s=0.0)
    else:
        checkpoint.restore(folder, found, work)
        say(Progress(stage="resume", message=f"going on after batch {found.step}"))
    resumed_at = work.step
    tuned.train()
    found = checkpoint.follow(folder, found, work, job.steps, say)
    tuned.eval()
    return found.base.nats_per_token, resumed_at


def _settings(job: ContinualJob) -> Settings:
    names = ("steps", "batch", "lr", "replay", "weight", "pool", "seed")
    return Settings(**{name: getattr(job, name) for name in names})


def _penalty(job: ContinualJob) -> continual.Penalty | None:
    if not job.accepted or not job.orthogonal:
        return None
    base_dir = Path(job.base_dir)
    laid = [(Path(one.adapter_dir), one.weight) for one in job.accepted]
    known = basis([(delta.read(path, adapter.inspect(path, base_dir)), w) for path, w in laid])
    return lambda tuned: job.orthogonal * continual.overlap(tuned, known)


def _pool(desk: Desk) -> Pool | None:
    """The made-up rows of the head, if there are any."""
    head = desk.state.step(desk.state.head) if desk.state.head else None
    if head is None or not head.shares:
        return None
    folder = learner.step_folder(Path(desk.job.state_dir), head.number)
    cache = LogitCache(folder / learner.POOL_FILE)
    steps = [number for number, count in head.shares for _ in range(count)]
    places = torch.arange(len(cache.rows))
    return Pool(cache.rows, cache.answers(places), torch.tensor(steps))


def _passages(desk: Desk, texts: Sequence[str]) -> Passages:
    return measure.passages(desk.tokenizer, texts, desk.job.eval_tokens, desk.context)


def _write(desk: Desk, tuned: PeftModel, work: Path, pool: Pool | None) -> bytes:
    """The step's files, and nothing else in its folder; the adapter's bytes."""
    base_dir = Path(desk.job.base_dir)
    checkpoint.remove(work)
    lora = tuned.peft_config["default"]
    assert isinstance(lora, LoraConfig)
    assert lora.target_modules is not None
    tensors = {name: t.contiguous() for name, t in model.adapter_tensors(tuned).items()}
    data = save(tensors, metadata={"format": "pt"})
    folder = work / "adapter"
    folder.mkdir(exist_ok=True)
    durable.replace_file(folder / adapter.WEIGHTS_FILE, data, 0o644)
    targets = tuple(sorted(lora.target_modules))
    config = Config(rank=lora.r, alpha=float(lora.lora_alpha), targets=targets)
    path = folder / adapter_config.CONFIG_FILE
    durable.replace_file(path, adapter_config.write_config(config), 0o644)
    adapter.inspect(folder, base_dir)
    asked = Asked(content_id(data), distill.tokenizer_id(base_dir), _settings(desk.job).caching)
    if pool is not None:
        kept_logits.write(work / learner.POOL_FILE, tuned, pool.rows, pool.answers, asked)
    return data


def _shares(pool: Pool | None) -> tuple[tuple[int, int], ...]:
    made: list[tuple[int, int]] = []
    for number in [] if pool is None else pool.step.tolist():
        if made and made[-1][0] == number:
            made[-1] = (number, made[-1][1] + 1)
        else:
            made.append((number, 1))
    return tuple(made)


def _ids(news: News) -> list[bytes]:
    return [bytes.fromhex(corpus.document_id(t))[:ID_BYTES] for t in [*news.train, *news.held]]


def _job_id(desk: Desk, rows: torch.Tensor) -> ContentId:
    same = msgspec.structs.replace(desk.job, threads=1, max_memory_bytes=0)
    files = [(p.name, p.stat().st_size) for p in weights.weight_files(Path(desk.job.base_dir))]
    text = content_id(rows.numpy().tobytes())
    return content_id(msgspec.json.encode([same, files, desk.state.head, text]))


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _nothing(state: State, tokens: int, seconds: float) -> ContinualReport:
    last = state.step(state.head) if state.head else None
    return ContinualReport(
        step=0,
        waiting_tokens=tokens,
        documents=0,
        train_tokens=0,
        before=0.0,
        after=0.0,
        meters=last.meters if last else (),
        forgetting=last.forgetting if last else 0.0,
        pool_rows=sum(count for _step, count in last.shares) if last else 0,
        refused={},
        adapter_bytes=0,
        seconds=seconds,
        resumed_at=0,
        dtype="",
        memory_estimate=0,
        peak_rss=memory.peak_bytes(),
    )
