"""`recurrent-rl envs`: the environments of this library, and a page about each."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from recurrent_rl.agents.settings import close_matches, validated
from recurrent_rl.cli.terminal import figure, parse
from recurrent_rl.errors import UserError
from recurrent_rl.runs.progress import make_console

WIDTH = 80
"""Columns at most: prose is read with ease, and every terminal has as many."""
LEVEL = re.compile(r"-(Easy|Medium|Hard)(?=-v\d+$)")


@validated
@dataclass(frozen=True)
class EnvsArguments:
    """List the environments of this library, or describe one of them in full."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = None
    """Environment to describe, such as TMaze or recurrent_rl/RepeatPrevious-Hard-v0; by default
    all are listed."""
    probes: bool = False
    """Also list the tiny environments that test a training loop."""


def envs_command(arguments: Sequence[str]) -> int:
    """List our environments, or describe one: its task, spaces and returns."""
    given = parse(EnvsArguments, "envs", arguments)
    console = make_console()
    console.width = min(console.width, WIDTH)
    if given.name is None:
        _print_list(console, given.probes)
    else:
        _print_page(console, find(given.name))
    return 0


def families() -> dict[str, list[str]]:
    """Our ids by the name of their task: the levels of one task stand together, Easy first."""
    import gymnasium as gym

    import recurrent_rl.envs  # noqa: F401 (registers them)

    found: dict[str, list[str]] = {}
    for env_id, spec in gym.registry.items():
        if spec.namespace == "recurrent_rl":
            found.setdefault(_short(LEVEL.sub("", env_id)), []).append(env_id)
    return dict(sorted(found.items()))


def find(name: str) -> list[str]:
    """The environments of this name: one, or all levels of a task that has some.

    Args:
        name: an id, with `recurrent_rl/` and `-v0` or without; or a task's. In any case of letters.

    Raises:
        UserError: there is none; names those that are near.
    """
    by_name: dict[str, list[str]] = {}
    for family, ids in families().items():
        by_name |= {_short(env_id): [env_id] for env_id in ids} | {family: ids}
    wanted = _short(name)
    near = close_matches(wanted, by_name, most=3, cutoff=0.5)
    if near and near[0].lower() == wanted.lower():
        return by_name[near[0]]
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise UserError(
        f"recurrent-rl has no environment {name!r}.{hint} `recurrent-rl envs` lists all."
    )


def _short(env_id: str) -> str:
    return re.sub(r"-v\d+$", "", env_id.removeprefix("recurrent_rl/"))


def _print_list(console: Console, probes: bool) -> None:
    every = families()
    tasks = {name: ids for name, ids in every.items() if not name.startswith("Probe-")}
    tiny = {name: ids for name, ids in every.items() if name not in tasks}
    for title, group in (
        ("recurrent_rl/NAME-v0", {name: ids for name, ids in tasks.items() if len(ids) == 1}),
        (
            "In three levels, of which the returns are Easy's\n"
            "recurrent_rl/NAME-Easy-v0, NAME-Medium-v0, NAME-Hard-v0",
            {name: ids for name, ids in tasks.items() if len(ids) > 1},
        ),
        ("To test a training loop\nrecurrent_rl/NAME-v0", tiny if probes else {}),
    ):
        if group:
            console.print(title, style="bold", highlight=False)
            console.print(_rows(group), "")
    console.print(
        "About one:  recurrent-rl envs NAME\n"
        "Train:      recurrent-rl train ENV_ID    (or any other Gymnasium environment)",
        highlight=False,
    )


def _rows(group: dict[str, list[str]]) -> Table:
    table = _table()
    table.add_column("NAME", min_width=25, no_wrap=True)
    table.add_column("what to remember", min_width=33, no_wrap=True)
    table.add_column("memoryless", justify="right", min_width=10)
    table.add_column("best", justify="right", min_width=5)
    for family, (env_id, *_) in group.items():
        try:
            known = _properties(env_id)
        except UserError:  # its page says what to install
            table.add_row(family, "(not installed)")
            continue
        to_remember: str = _class_of(env_id).to_remember
        table.add_row(family, to_remember, known["memoryless return"], known["best return"])
    return table


def _table(*columns: str, show_header: bool = True) -> Table:
    return Table(
        *columns,
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="dim",
        show_header=show_header,
    )


def _print_page(console: Console, ids: list[str]) -> None:
    """What the docstring tells, and the properties of each level beside each other."""
    kind, properties = _class_of(ids[0]), [_properties(env_id) for env_id in ids]
    console.print("\n".join(ids), style="bold", highlight=False)
    for block in _task(kind).split("\n\n"):
        as_it_is = block.startswith((" ", "|"))  # a formula, a table
        console.print()
        text = block if as_it_is else " ".join(block.split())
        console.print(text, highlight=False, soft_wrap=as_it_is)

    levels = [match[1] if (match := LEVEL.search(env_id)) else "" for env_id in ids]
    table = _table("", *levels, show_header=len(ids) > 1)
    for label in properties[0]:
        table.add_row(label, *(of_level[label] for of_level in properties))
    console.print("", table, "", highlight=False)

    commands = [f"Train:   recurrent-rl train {ids[0]}"]
    defaults = [_defaults(kind, env_id) for env_id in ids]
    if defaults[0]:
        meanings = _arguments(kind)
        table = _table("argument", *(levels if len(ids) > 1 else ["default"]), "")
        for name in defaults[0]:
            values = (json.dumps(of_level[name]) for of_level in defaults)
            table.add_row(name, *values, meanings[name])
        console.print(table, "", highlight=False)
        name, value = next(iter(defaults[0].items()))
        example = json.dumps({name: value})
        commands.append(f"Change:  recurrent-rl train {ids[0]} --env-kwargs '{example}'")
    console.print("\n".join(commands), highlight=False, soft_wrap=True)


def _class_of(env_id: str) -> Any:
    """The class whose docstrings tell of it: the batched one where there is one."""
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    spec = gym.spec(env_id)
    place = spec.vector_entry_point or spec.entry_point
    return load_env_creator(place) if isinstance(place, str) else place


def _properties(env_id: str) -> dict[str, str]:
    """What can be said in a word, by its name.

    Raises:
        UserError: the environment needs a package that is not installed.
    """
    import gymnasium as gym

    try:
        env = gym.make_vec(env_id, num_envs=1)
    except gym.error.DependencyNotInstalled as error:
        raise UserError(str(error)) from error
    with closing(env):
        base = env.unwrapped
        steps = getattr(base, "max_episode_steps", gym.spec(env_id).max_episode_steps)
        return {
            "observation": _space(env.single_observation_space),
            "action": _space(env.single_action_space),
            "longest episode": f"{steps} steps",
            "memoryless return": figure(getattr(base, "memoryless_return", None)),
            "best return": figure(getattr(base, "best_return", None)),
        }


def _task(kind: type) -> str:
    """The docstring about the task: the module's, or the class's where a module holds several."""
    module = inspect.getdoc(inspect.getmodule(kind)) or ""
    own = (inspect.getdoc(kind) or "").split("\n\nArgs:")[0]
    return module if module.startswith(kind.__name__.removesuffix("Env")) else own


def _arguments(kind: type) -> dict[str, str]:
    """What a class's docstring says about its arguments."""
    _, _, section = (inspect.getdoc(kind) or "").partition("\nArgs:\n")
    section = section.split("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _defaults(kind: type, env_id: str) -> dict[str, Any]:
    """The arguments that `--env-kwargs` can give, with what they are for this id."""
    import gymnasium as gym

    parameters = inspect.signature(kind).parameters.values()
    ours = ("num_envs", "render_mode")  # which no --env-kwargs can give
    values = {one.name: one.default for one in parameters if one.name not in ours}
    return values | gym.spec(env_id).kwargs


def _space(space: Any) -> str:
    """A space on a line: equal parts of a MultiDiscrete are counted, not repeated."""
    text = " ".join(str(space).split())
    sizes = getattr(space, "nvec", None)
    if sizes is not None and len(sizes) > 3 and len(set(sizes.tolist())) == 1:
        return f"MultiDiscrete([{sizes[0]}] * {len(sizes)})"
    return text
