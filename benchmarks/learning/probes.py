"""What each memory can be taught, without reinforcement learning: to delay, to reverse, to count.

    python benchmarks/learning/probes.py  # every memory on every probe, the table, docs/probes.png
    python benchmarks/learning/probes.py --memories gru rotor  # some
    python benchmarks/learning/probes.py --probes "26 pairs" --memories matrix
    python benchmarks/learning/probes.py --table  # those of what there is

Cross-entropy on the right answer at each step, by Adam, on fresh random sequences; the figure is
the share of right answers in the last tenth of the updates. It tells within seconds whether a
memory can hold what a task needs, before it is asked to find that out by trial and error. Each
figure leaves a line in benchmarks/results/probes.jsonl; what is there is not done again. Lines
without `code` are older than the file: figures of the page's table, of whole percents.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from figures import dots, legend, panels, save
from jobs import ROOT, arguments, commit, read_rows
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from variants import IN_LIBRARY, MATRICES

from recurrent_rl.agents.memory.registry import MEMORIES, make_memory
from recurrent_rl.experiments.comparison import markdown
from recurrent_rl.process import computing, keeping_freed_memory

RESULTS = ROOT / "benchmarks" / "results" / "probes.jsonl"
ENVIRONMENTS = 32
NOT_ASKED = -100  # what cross_entropy leaves out

Batch = tuple[Tensor, Tensor]  # inputs [T, B, F], answers [T, B]


def delay(steps: int) -> Batch:
    """Give back the card seen so many steps ago: RepeatPrevious."""
    cards = torch.randint(4, (max(128, 2 * steps), ENVIRONMENTS))
    answers = torch.full_like(cards, NOT_ASKED)
    answers[steps:] = cards[:-steps]
    return one_hot(cards, 4).float(), answers


def reverse(count: int) -> Batch:
    """See so many cards, then give them back from the last to the first: Autoencode."""
    cards = torch.randint(4, (count, ENVIRONMENTS))
    inputs = torch.zeros(2 * count, ENVIRONMENTS, 5)
    inputs[:count, :, :4] = one_hot(cards, 4).float()
    inputs[count:, :, 4] = 1.0
    return inputs, torch.cat([torch.full_like(cards, NOT_ASKED), cards.flip(0)])


def count(kinds: int) -> Batch:
    """How many cards of the kind asked for were there so far: CountRecall."""
    cards, asked = torch.randint(kinds, (2, 52, ENVIRONMENTS))
    seen = one_hot(cards, kinds)
    answers = seen.cumsum(0).gather(-1, asked.unsqueeze(-1)).squeeze(-1)
    return torch.cat([seen, one_hot(asked, kinds)], dim=-1).float(), answers


def pairs(count: int, keys: int = 32, values: int = 8) -> Batch:
    """See so many pairs of key and value, then give the value of each key, in another order."""
    shown = torch.rand(keys, ENVIRONMENTS).argsort(0)[:count]
    values_of = torch.randint(values, (count, ENVIRONMENTS))
    order = torch.rand(count, ENVIRONMENTS).argsort(0)
    inputs = torch.zeros(2 * count, ENVIRONMENTS, keys + values + 1)
    inputs[:count, :, :keys] = one_hot(shown, keys).float()
    inputs[:count, :, keys:-1] = one_hot(values_of, values).float()
    inputs[count:, :, :keys] = one_hot(shown.gather(0, order), keys).float()
    inputs[count:, :, -1] = 1.0
    answers = torch.full_like(values_of, NOT_ASKED)
    return inputs, torch.cat([answers, values_of.gather(0, order)])


PROBES: dict[str, Callable[[], Batch]] = {
    "delay of 32": lambda: delay(32),
    "delay of 64": lambda: delay(64),
    "16 cards in reverse": lambda: reverse(16),
    "52 cards in reverse": lambda: reverse(52),
    "104 cards in reverse": lambda: reverse(104),
    "26 pairs": lambda: pairs(26),
    "count of 2 kinds": lambda: count(2),
    "count of 4 kinds": lambda: count(4),
    "count of 13 kinds": lambda: count(13),
}


def accuracy(
    probe: Callable[[], Batch], memory_name: str, hidden: int, updates: int, seed: int = 0
) -> float:
    torch.manual_seed(seed)
    inputs, _ = probe()
    encoder = nn.Sequential(nn.Linear(inputs.shape[-1], 128), nn.Tanh())
    memory = make_memory(memory_name, 128, hidden, 1, horizon=128)
    head = nn.Linear(memory.output_size, 64)
    parameters = [*encoder.parameters(), *memory.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
    right: list[Tensor] = []
    for _ in range(updates):
        inputs, answers = probe()
        outputs, _ = memory.unroll(encoder(inputs), memory.initial_state(ENVIRONMENTS))
        guesses = head(outputs)
        loss = cross_entropy(guesses.flatten(0, 1), answers.flatten(), ignore_index=NOT_ASKED)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        asked = answers != NOT_ASKED
        right.append((guesses.argmax(-1) == answers)[asked].float().mean())
    return float(torch.stack(right[-max(1, updates // 10) :]).mean())


Row = dict[str, Any]
FAMILIES = {
    "real-valued: RNN, LSTM, GRU and kin": (
        *("rnn", "lstm", "gru", "lstm-peephole", "gru-original", "mingru", "minlstm"),
    ),
    "complex-valued: lru, rotor": ("lru", "rotor"),
    "both: gru-rotor, the default": ("gru-rotor",),
}
"""What the figure tells apart."""


def found(rows: list[Row], memory: str, probe: str) -> list[float]:
    return [row["right"] for row in rows if (row["memory"], row["probe"]) == (memory, probe)]


def table(rows: list[Row]) -> str:
    """Markdown: a row for each memory, a column for each probe that has figures."""
    probes = [probe for probe in PROBES if any(row["probe"] == probe for row in rows)]
    lines = []
    for memory in MEMORIES:
        cells = [found(rows, memory, probe) for probe in probes]
        if any(cells):
            lines.append([memory, *(f"{sum(x) / len(x):.0%}" if x else "" for x in cells)])
    return markdown(["memory", *probes], lines)


def draw(rows: list[Row]) -> None:
    """A mark for each memory."""
    drawn = {row["probe"] for row in rows if row["memory"] == "gru-rotor"}
    probes = [probe for probe in PROBES if probe in drawn]
    figure, ((axis,),) = panels(size=(7.5, 2.8))
    series = {
        family: [[x for name in names for x in found(rows, name, probe)] for probe in probes]
        for family, names in FAMILIES.items()
    }
    dots(axis, probes, series)
    axis.set_xlabel("share of right answers; guessing has 0.25, at the count 0.1", fontsize=8)
    legend(figure, axis)
    save(figure, "probes")


def main() -> None:
    parser = arguments(__doc__, seeds=1)
    usual = [name for name in MEMORIES if name not in {"none", *MATRICES} - {*IN_LIBRARY}]
    parser.add_argument("--memories", nargs="+", choices=MEMORIES, default=usual)
    parser.add_argument("--probes", nargs="+", choices=PROBES, default=list(PROBES))
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    size = {"hidden": given.hidden, "updates": given.updates}
    rows = [row for row in read_rows(RESULTS) if size.items() <= row.items()]
    todo = [] if given.table else product(range(given.seeds), given.memories, given.probes)
    for seed, memory, probe in todo:
        row: Row = {"memory": memory, "probe": probe, "seed": seed, **size}
        if any(row.items() <= there.items() for there in rows):
            continue
        with computing(given.threads), keeping_freed_memory():
            right = accuracy(PROBES[probe], memory, given.hidden, given.updates, seed)
        rows.append(row | {"code": commit(), "right": round(right, 4)})
        print(rows[-1], flush=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))
    draw(rows)


if __name__ == "__main__":
    main()
