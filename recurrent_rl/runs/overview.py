"""What to look at first in TensorBoard, whose groups stand in the order of the alphabet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import quote

OVERVIEW = {
    "return": "rollout/ep_rew_mean",
    "episode length": "rollout/ep_len_mean",
    "evaluation": "eval/mean_reward",
    "steps per second": "time/fps",
}
"""The tags of the curves that say how a run is doing, by title."""

WebApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""Of WSGI (PEP 3333): answers a request, and calls back with status and headers."""


def layout() -> dict[str, dict[str, list[object]]]:
    """These curves as a page of the tab Custom Scalars, for `SummaryWriter.add_custom_scalars`."""
    return {"overview": {title: ["Multiline", [tag]] for title, tag in OVERVIEW.items()}}


def with_overview(board: WebApp) -> WebApp:
    """A TensorBoard whose first page has these curves pinned above all others.

    TensorBoard takes pinned curves from the query of its address alone. So its bare address leads
    to the one that names them. The part after #, which says the tab, the browser keeps.
    """
    cards = [{"plugin": "scalars", "tag": tag} for tag in OVERVIEW.values()]
    pinned = f"?pinnedCards={quote(json.dumps(cards, separators=(',', ':')))}"

    def answer(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if request["PATH_INFO"] == "/" and not request.get("QUERY_STRING"):
            start_response("302 Found", [("Location", pinned), ("Content-Length", "0")])
            return []
        return board(request, start_response)

    return answer
