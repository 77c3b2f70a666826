"""Mutated heads (``mutations.py``): refused in one short sentence, or loaded as they are; never slow, never large."""

import pytest
from mutations import Heads


@pytest.mark.slow
def test_mutated_heads(tmp_path, request):
    heads, loaded = Heads(tmp_path), 0
    begin, many = request.config.getoption("--seed"), request.config.getoption("--heads")
    for seed in range(begin, begin + many):
        fault, fine = heads.check(seed)
        assert fault is None, f"seed {seed}: {fault}"
        loaded += fine
    assert 0 < loaded < many
