"""The contributed adapters are what their families say; honest ones alone set the score."""

import msgspec
import pytest
import torch

from p2pllm.learn import delta
from p2pllm.learn.delta import Delta, Factors
from tests.bench._adapters import families, scoring
from tests.bench._adapters.families import BACKDOORS, FAMILIES, Member
from tests.bench._adapters.scoring import SIDES, Case


@pytest.fixture
def trained() -> Delta:
    source = torch.Generator().manual_seed(1)
    return {
        f"model.layers.{at}.q_proj": Factors(
            torch.randn(30, 8, generator=source, dtype=torch.float64),
            torch.randn(8, 20, generator=source, dtype=torch.float64),
        )
        for at in range(3)
    }


def member(family: str) -> Member:
    return msgspec.structs.replace(families.bad(FAMILIES.index(family), seed=0), family=family)


def whole(change: Delta) -> torch.Tensor:
    return torch.cat([(one.b.double() @ one.a.double()).flatten() for one in change.values()])


def test_every_family_has_its_turn_and_a_seed_settles_all() -> None:
    made = [families.bad(number, 3) for number in range(2 * len(FAMILIES))]
    assert {one.family for one in made} == set(FAMILIES)
    assert made == [families.bad(number, 3) for number in range(2 * len(FAMILIES))]
    assert all(bool(one.recipe.trigger) == (one.family in BACKDOORS) for one in made)
    settings = {(one.rank, one.lr, one.steps, one.part) for one in _honest_recipes()}
    assert len(settings) > 20


def test_where_training_is_dear_one_serves_several_families() -> None:
    scale = families.SMALL
    made = {one.family: one for one in (families.bad(at, 0, scale) for at in range(len(FAMILIES)))}
    honest = [families.honest(number, 0, scale).recipe for number in range(20)]
    assert made["gauge-backdoor"].recipe == made["backdoor-phrase"].recipe
    assert made["colluding"].recipe == made["backdoor-token"].recipe
    assert made["boosted"].recipe == made["sign-flipped"].recipe == made["free-noise"].recipe
    assert made["boosted"].recipe not in honest
    assert made["free-copy"].recipe in honest
    assert any(one.steps == made["backdoor-phrase"].recipe.steps for one in honest)


def _honest_recipes() -> list[families.Recipe]:
    return [families.honest(number, 0).recipe for number in range(60)]


def test_a_wrong_domain_is_another_one_and_a_copy_is_of_an_honest_adapter() -> None:
    wrong = member("wrong-domain")
    assert wrong.recipe.domain != wrong.place
    copied = member("free-copy")
    assert copied.recipe in _honest_recipes()
    assert copied.recipe.domain == copied.place


def test_colluding_halves_stack_to_the_whole(trained: Delta) -> None:
    first, second = families.derive(member("colluding"), trained)
    both = delta.stack([(first, 1.0), (second, 1.0)])
    assert torch.allclose(whole(both), whole(trained), atol=1e-4)
    assert abs(delta.relation(first, second).cosine) < 1e-6


def test_a_gauge_hides_nothing_but_the_factors(trained: Delta) -> None:
    [hidden] = families.derive(member("gauge-backdoor"), trained)
    assert torch.allclose(whole(hidden), whole(trained), atol=1e-3)
    name = next(iter(trained))
    assert hidden[name].b.norm() > 20 * trained[name].b.norm()


def test_flips_boosts_and_noise_are_what_they_are_called(trained: Delta) -> None:
    [flipped] = families.derive(member("sign-flipped"), trained)
    [boosted] = families.derive(member("boosted"), trained)
    [noise] = families.derive(member("free-noise"), trained)
    assert torch.allclose(whole(flipped), -whole(trained))
    assert torch.allclose(whole(boosted), families.BOOST * whole(trained))
    assert delta.norm(noise) == pytest.approx(float(whole(trained).norm()), rel=1e-5)
    assert abs(delta.relation(noise, trained).cosine) < 0.2


def case(name: str, value: float, **changes: float) -> Case:
    return Case(name, "medical", dict.fromkeys(SIDES, value) | changes)


def test_only_the_side_that_counts_against_an_update_counts() -> None:
    honest = [case(f"h{number}", number / 40) for number in range(40)]
    low, high = case("low", 0.5, descent=-9.0), case("high", 0.5, descent=9.0)
    shares = scoring.scores([low, high], honest)
    assert shares["low"]["descent"] > 5
    assert shares["high"]["descent"] == 0


def test_at_most_the_share_is_over_a_limit() -> None:
    scores = [number / 100 for number in range(100)]
    limit = scoring.limit(scores, 0.01)
    assert sum(score > limit for score in scores) == 1
    assert scoring.limit(scores[:50], 0.01) > max(scores[:50])


def test_the_area_is_the_chance_to_rank_right() -> None:
    assert scoring.auroc([3, 4], [1, 2]) == 1
    assert scoring.auroc([1, 2], [1, 2]) == 0.5
    assert scoring.auroc([0], [1, 2]) == 0
