"""What `export.streaming` goes with."""

from __future__ import annotations

from typing import Any

import pytest

from edgecompress.recipe.checks.streaming import check_streaming


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"student": {"model": "gru"}}, ""),
        ({"student": {"model": "gru"}, "export": {"streaming": False}, "task": "text-classification"}, ""),
        ({"student": {"model": "lstm"}, "task": "text-classification"}, "task text-classification is about something"),
        ({"teacher": {"model": "gru"}, "student": {"model": "tcn"}}, "needs a recurrent network, not `tcn`"),
        ({"student": {"model": "gru"}, "quantize": {"activations": "dynamic"}}, "activations: dynamic`: states"),
        ({"student": 3, "quantize": [], "task": 4}, ""),
    ],
)
def test_streaming_is_for_recurrent_networks_over_series(recipe: dict[str, Any], message: str) -> None:
    found = list(check_streaming({"task": "timeseries-classification", "export": {"streaming": True}, **recipe}))
    assert [path for path, *_ in found] == [("export", "streaming")] * bool(message)
    assert message in "".join(text for _, text, _ in found)
