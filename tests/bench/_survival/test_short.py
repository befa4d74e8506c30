"""The short form of the bench: a verb is broken off by Ctrl-C, and goes well when given again."""

from tests.bench import survival


def test_a_verb_that_was_interrupted_says_how_to_go_on_and_then_does() -> None:
    found = survival.main(["--short"])
    assert found["short"]
    [verb] = found["verbs"]
    assert (verb["verb"], verb["same"]) == ("import", True)
    # How long it took says as much about a busy machine as about the verb.
    assert [what for what in found["wrong"] if " took " not in what] == []
    assert found["worst_ctrl_c_s"] < 5 * survival.OBEYED_S
