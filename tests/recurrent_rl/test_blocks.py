"""Blocks of environments: whole strata, every environment once, a part of every minibatch."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from recurrent_rl.blocks import Block, block_of, most_workers, shuffled_chunks
from recurrent_rl.config import ResolvedConfig, TrainConfig
from recurrent_rl.errors import UserError
from recurrent_rl.resolve import choose_sizes, with_workers


def config(num_envs: int, num_minibatches: int, seq_len: int | None = None) -> ResolvedConfig:
    settings = {"num_envs": num_envs, "num_minibatches": num_minibatches, "seq_len": seq_len}
    return choose_sizes(TrainConfig("CartPole-v1", num_steps=12, **settings), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("num_envs", "num_minibatches", "seq_len", "most"),
    [(16, 4, None, 4), (10, 2, None, 5), (6, 3, 4, 6), (7, 1, None, 7), (4, 4, None, 1)],
)
def test_workers_have_every_environment_once_and_a_part_of_every_minibatch(
    num_envs: int, num_minibatches: int, seq_len: int | None, most: int
) -> None:
    settings = config(num_envs, num_minibatches, seq_len)
    assert most_workers(settings) == most
    times = settings.num_chunks // num_envs
    # What each chunk is: of which environment, the how-manieth.
    whole = torch.stack(
        [torch.arange(times).repeat_interleave(num_envs), torch.arange(num_envs).repeat(times)]
    )
    minibatches = shuffled_chunks(settings, torch.Generator().manual_seed(0))
    for size in range(1, most + 1):
        blocks = [block_of(settings, rank, size) for rank in range(size)]
        assert [b.first for b in blocks] == [sum(b.count for b in blocks[:i]) for i in range(size)]
        assert sum(block.count for block in blocks) == num_envs
        assert max(b.count for b in blocks) - min(b.count for b in blocks) <= num_envs // most
        for chunks in minibatches:
            found = []
            for block in blocks:
                own = block.own(chunks)
                assert len(own) > 0
                found.append(torch.stack([own // block.count, own % block.count + block.first]))
            together = torch.cat(found, dim=1).T.tolist()
            assert sorted(together) == sorted(whole[:, chunks].T.tolist())


def test_more_workers_than_strata_are_refused_with_what_works() -> None:
    with pytest.raises(UserError, match="Use at most 4 workers, or raise num_envs to 20"):
        block_of(config(16, 4), 0, 5)
    with pytest.raises(UserError, match=r"make 1 group of 4 .* at most 1 worker, or .* to 8"):
        block_of(config(4, 4), 0, 2)


def test_whole_is_the_block_of_one_worker() -> None:
    assert block_of(config(16, 4), 0, 1) == Block.whole(16)
    assert all(Block(4, 2, 16).holds(i) == (i in (4, 5)) for i in range(16))


def test_auto_takes_a_worker_for_each_core_and_at_least_sixteen_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recurrent_rl.resolve.available_cores", lambda: 3)
    for num_envs, minibatches, most in ((64, 4, 4), (32, 4, 2), (8, 4, 1), (64, 32, 2)):
        whole = dataclasses.replace(config(num_envs, minibatches), device="cpu")
        chosen = with_workers(whole, "auto")
        assert chosen.workers == min(3, most)
        (why,) = chosen.choices()
        assert why == (
            f"workers {chosen.workers}: 3 cores; the {num_envs} environments are enough for "
            f"{most}, with at least 16 each"
        )
        assert chosen.as_requested().workers == "auto"
        read = TrainConfig.from_json(chosen.to_json())
        assert read == chosen
        assert with_workers(chosen, 1) == whole


def test_auto_takes_a_worker_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "recurrent_rl.resolve.pick_device", lambda name: torch.device(name.replace("auto", "cuda"))
    )
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for device, workers in (("auto", 2), ("cuda", 2), ("cuda:1", 1), ("mps", 1)):
        chosen = with_workers(dataclasses.replace(config(64, 4), device=device), "auto")
        assert chosen.workers == workers
    assert chosen.choices()[0].startswith("workers 1: 1 device mps; ")
