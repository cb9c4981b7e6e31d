"""What to look at first in TensorBoard, whose groups stand in the order of the alphabet."""

from __future__ import annotations

import json
from urllib.parse import quote

OVERVIEW = {
    "return": "rollout/ep_rew_mean",
    "episode length": "rollout/ep_len_mean",
    "evaluation": "eval/mean_reward",
    "steps per second": "time/fps",
}
"""The tags of the curves that say how a run is doing, by title."""


def layout() -> dict[str, dict[str, list[object]]]:
    """These curves as a page of the tab Custom Scalars, for `SummaryWriter.add_custom_scalars`."""
    return {"overview": {title: ["Multiline", [tag]] for title, tag in OVERVIEW.items()}}


def pinned(url: str) -> str:
    """The address of a TensorBoard with these curves pinned above all others on its first page."""
    cards = [{"plugin": "scalars", "tag": tag} for tag in OVERVIEW.values()]
    return f"{url}?pinnedCards={quote(json.dumps(cards, separators=(',', ':')))}#timeseries"
