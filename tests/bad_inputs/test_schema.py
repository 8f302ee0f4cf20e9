"""Values that nobody means under every key and group: a config that holds, or one refusal, and never a traceback or NaN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronlens.config.fingerprint import plain
from neuronlens.config.groups import group_names
from neuronlens.config.jobs import checked_jobs
from neuronlens.config.typed import schema_keys
from neuronlens.errors import ConfigError
from tests.bad_inputs.test_bad_inputs import LEAKS

KEYS = sorted({*schema_keys(), *group_names(), "range.tau", "saliency.seed", "model.finetune", "nothing", "model.nmae"})
NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1", "0.5", "1e308", "1e20", "9" * 30)
WORDS = ("", "null", "true", "a", "zero", "max", "last", "..", "'a=b'", "${seed}", "${nope}", "a,b", "[", "=")
LISTS = ("[]", "[1]", "[a,b]", "[[1]]", "[null]", "{}", "{a:1}", "[{a:1}]")
ODD = (*NUMBERS, *WORDS, *LISTS)
VALUES = st.sampled_from(ODD) | st.text(st.characters(codec="ascii", min_codepoint=32), max_size=6)


def _numbers(node: Any) -> Iterator[float]:
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _numbers(value)
    elif isinstance(node, float):
        yield node


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(KEYS), VALUES, st.sampled_from(["", "+", "++"]), st.booleans())
def test_any_override_holds_or_is_refused(key: str, value: str, sign: str, multirun: bool) -> None:
    words, refused, jobs = [f"{sign}{key}={value}"], "", []
    try:
        jobs = checked_jobs(words, multirun=multirun, config_dir=None)
    except ConfigError as error:
        refused = str(error)
    assert not LEAKS.search(refused), refused
    assert not any(math.isnan(number) for job in jobs for number in _numbers(plain(job.config)))
