"""A conversation: what is missing is asked for, and the answer is the recommender's own."""

import random

from p2pllm.assistant import dialogue, speech
from p2pllm.assistant.reading import Slots
from p2pllm.recommend import recommend
from tests.bench._recommend.table import make_device, make_world

WHOLE = "summarise medical notes in English on my laptop, 8 GB of memory, 5 minutes"


def test_everything_missing_is_asked_for_in_the_language_of_the_words() -> None:
    reply = dialogue.understand("necesito un modelo para mi clínica")
    asked = {question.slot for question in reply.questions}
    assert asked == {"language", "task", "memory_bytes", "platform", "latency_ms"}
    assert reply.tongue == "es"
    assert reply.questions[0].text == speech.QUESTIONS["language"]["es"]
    assert not reply.ready


def test_the_answer_is_the_recommenders_own_top_pick() -> None:
    rng = random.Random(3)
    world, device = make_world(rng, 60), make_device(rng)
    reply = dialogue.answer(WHOLE, world.candidates, device, world.trust)
    wants = dialogue.wants_of(reply.slots)
    assert reply.ready
    assert reply.advice == recommend(world.candidates, wants, device, world.trust)
    assert wants.max_wait == 300


def test_turns_add_up_and_the_last_word_counts() -> None:
    first = dialogue.understand("a legal model in English for contracts")
    second = dialogue.understand("medical, rather, with 2 GB", first.slots)
    assert second.slots.language == "en"
    assert (second.slots.domain, second.slots.sub) == ("medical", "")
    assert second.slots.memory_bytes == 2 * 10**9


def test_a_bare_word_answers_the_question_asked() -> None:
    assert dialogue.told("domain", "beekeeping").domain == "agriculture"
    assert dialogue.told("language", "it").language == "it"
    assert dialogue.told("domain", "numismatics").domain == "numismatics"
    assert dialogue.told("memory_bytes", "3 Go").memory_bytes == 3 * 10**9
    assert dialogue.told("domain", "") == Slots()


def test_a_family_of_licences_stands_for_its_members() -> None:
    assert dialogue.licences_of("") == ()
    assert "MIT" in dialogue.licences_of("permissive")
    assert "GPL-3.0-only" in dialogue.licences_of("GPL-3.0")
    assert dialogue.licences_of("MIT") == ("MIT",)
