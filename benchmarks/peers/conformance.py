"""Six contracts of recurrent reinforcement learning libraries, checked in six of them.

    python benchmarks/peers/conformance.py  # what is not there yet, then the table
    python benchmarks/peers/conformance.py --table  # the table of the rows there are
    python benchmarks/peers/conformance.py --only skrl  # this library
    python benchmarks/peers/conformance.py --only skrl --again  # and anew where there is a row

What each contract says and how it is checked stands in runners/contracts.py and
docs/conformance.md; how a library is trained, saved and asked, in runners/NAME_contracts.py.
The peers' environments are those of peers.py. Each finding is one line of
benchmarks/results/conformance.jsonl, with the figure that was measured.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

import peers
from peers import RUNNERS, Row, RunError, tell

RESULTS = Path(__file__).resolve().parents[1] / "results" / "conformance.jsonl"
LIBRARIES = {
    "recurrent_rl": "recurrent-rl",
    "sb3_contrib": "sb3-contrib",
    "rl_games": "rl_games",
    "skrl": "skrl",
    "rsl_rl": "rsl_rl",
    "sample_factory": "Sample Factory",
}
"""By the name of their runner, in the order of the table."""
CONTRACTS = {
    "reset": "reset of the memory",
    "bootstrap": "bootstrap at time limits",
    "inserted": "inserted rows",
    "ratio": "first ratio",
    "normaliser": "saved normaliser",
    "resume": "resume",
}
LIMIT = 1200.0
"""Seconds for one check."""


def check(runner: str, contract: str) -> Row:
    """Check one contract in one library: its row.

    Raises:
        RunError: the check failed to run.
    """
    python, script = peers.python_of(runner), RUNNERS / f"{runner}_contracts.py"
    command = [str(python), str(script), "--contract", contract]
    lines, in_time = peers.execute(runner, command, LIMIT)
    if not in_time:
        raise RunError(f"not done after {LIMIT:.0f} s")
    if len(lines) != 1:
        raise RunError(f"{len(lines)} lines instead of one")
    return lines[0]


def key(row: Row) -> tuple[str, str]:
    return row["library"], row["contract"]


def read() -> list[Row]:
    text = RESULTS.read_text() if RESULTS.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def record(row: Row) -> None:
    """Put the row in its place in the file, which another run may have written to meanwhile."""
    order = [(name, contract) for name in LIBRARIES.values() for contract in CONTRACTS]
    rows = [old for old in read() if key(old) != key(row)] + [row]
    rows.sort(key=lambda row: order.index(key(row)))
    RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_all(runners: list[str], contracts: list[str], again: bool) -> int:
    """Check what is not there; the number of checks that could not be run."""
    failures = peers.set_up_all(runners)
    done = set() if again else {key(row) for row in read()}
    todo = [
        (runner, contract)
        for runner in runners
        for contract in contracts
        if (LIBRARIES[runner], contract) not in done
    ]
    failed = 0
    for count, (runner, contract) in enumerate(todo, 1):
        name = LIBRARIES[runner]
        try:
            if runner in failures:
                raise RunError(f"not installed here: {failures[runner]}")
            row = check(runner, contract)
        except RunError as error:
            failed += 1
            tell(f"[{count}/{len(todo)}] {name}, {contract}: not checked: {error}")
            continue
        record(row)
        tell(f"[{count}/{len(todo)}] {name}, {contract}: {row['verdict']}. {row['figure']}")
    return failed


def print_tables(rows: list[Row]) -> None:
    """One table of verdicts, one of figures."""
    found = {key(row): row for row in rows}
    names = [name for name in LIBRARIES.values() if any(row["library"] == name for row in rows)]
    print(f"| contract | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for contract, title in CONTRACTS.items():
        cells = [found.get((name, contract), {}).get("verdict", "not checked") for name in names]
        print(f"| {title} | {' | '.join(cells)} |")
    print("\n| library | contract | verdict | measured | note |\n|---|---|---|---|---|")
    for row in rows:
        cells = [row["library"], CONTRACTS[row["contract"]], row["verdict"]]
        cells += [row[name].replace("|", "\\|") for name in ("figure", "note")]
        print(f"| {' | '.join(cells)} |")
    versions = dict.fromkeys(row["version"] for row in rows)
    print(f"\nVersions: {'; '.join(versions)}.")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(LIBRARIES), help="these libraries only")
    parser.add_argument("--contracts", nargs="+", choices=list(CONTRACTS), default=list(CONTRACTS))
    parser.add_argument("--again", action="store_true", help="also what has a row already")
    parser.add_argument("--table", action="store_true", help="only print the tables")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failed = 0
    if not args.table:
        failed = run_all(args.only or list(LIBRARIES), args.contracts, args.again)
    print_tables(read())
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
