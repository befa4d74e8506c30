"""Models made to be measured: they are as large as they say, and really answer."""

import torch

from p2pllm import fit
from p2pllm.fit import Use
from p2pllm.learn import calibrate, gauge


def test_a_probe_has_the_parameters_that_its_costs_are_reckoned_with() -> None:
    for at in (0, 4):
        sizes, _ = calibrate.probe(at)
        network = gauge.build(sizes, torch.float32)
        assert sum(weight.numel() for weight in network.parameters()) == sizes.params


def test_the_cache_takes_the_bytes_that_are_said_and_turns_leave_it_as_it_was() -> None:
    sizes, _ = calibrate.probe(0)
    ready = gauge.fill(gauge.build(sizes, torch.float32), 40, sizes.vocabulary)
    took = gauge.turn(ready, 3)
    assert len(took) == 3
    assert min(took) > 0
    held = sum(
        part.numel() * part.element_size()
        for layer in ready.cache.layers
        for part in (layer.keys, layer.values)
    )
    assert held == fit.memory(sizes, Use(context=40, item=4), fit.CAUTIOUS).cache
