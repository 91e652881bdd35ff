"""Every recorded response of the providers whose SDKs have an HTTP client of their own, through the pure readers."""

from __future__ import annotations

import pytest

from spanledger.instrumentation.wire import endpoints
from tests import recordings
from tests.instrumentation.wire.test_recordings import _differences, _read

pytestmark = [pytest.mark.recordings, recordings.needed]

COUNTS = {"cohere": 36, "huggingface": 10, "mistral": 50, "ollama": 15, "replicate": 2, "voyage": 5, "watsonx": 3}
"""Format -> how many of the recordings it reads."""


@pytest.mark.parametrize("format", COUNTS)
def test_every_recording_equals_the_truth(format: str) -> None:
    truth = recordings.truth()
    equal = 0
    different = []
    for recording in recordings.load(format):
        path = "/conversational" if format == "huggingface" else recording["path"].partition("#")[0]
        endpoint = endpoints.find(format, recording["method"], path)
        known = truth.get(recording["id"])
        if endpoint is None or known is None:
            continue
        found = _differences(_read(endpoint, recording, known["stream"]), known)
        different += [f"{recording['id']}: {'; '.join(found)}"] if found else []
        equal += not found
    assert not different
    assert equal == COUNTS[format]
