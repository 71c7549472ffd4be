"""Every epoch takes each sample once, in an order that neither ranks nor workers nor resuming can change."""

from itertools import islice

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import Order


@st.composite
def orders(draw: st.DrawFn) -> Order:
    samples = draw(st.integers(1, 60))
    shards = draw(st.lists(st.integers(0, 9), min_size=samples, max_size=samples))
    classes = draw(st.lists(st.sampled_from([32, 48, 64]), min_size=samples, max_size=samples))
    return Order(
        np.array(shards),
        np.array(classes),
        batch=draw(st.integers(1, 9)),
        window=draw(st.integers(1, 12)),
        seed=draw(st.integers(0, 2**40)),
    )


@settings(max_examples=60, deadline=None)
@given(orders(), st.integers(0, 3))
def test_every_epoch_takes_each_sample_once(order: Order, epoch: int) -> None:
    batches = list(islice(order.batches(epoch * order.steps), order.steps))
    assert {number for number, _ in batches} == {epoch}
    taken = np.concatenate([samples for _, samples in batches])
    assert sorted(taken.tolist()) == list(range(len(order.shards)))


@settings(max_examples=60, deadline=None)
@given(orders())
def test_batches_hold_one_class_and_are_short_only_at_the_end(order: Order) -> None:
    batches = [samples for _, samples in islice(order.batches(0), order.steps)]
    sizes = [len(samples) for samples in batches]
    assert all(len(set(order.classes[samples].tolist())) == 1 for samples in batches)
    assert sizes == [order.batch] * sizes.count(order.batch) + [size for size in sizes if size < order.batch]
    short = [int(order.classes[samples[0]]) for samples in batches if len(samples) < order.batch]
    assert len(set(short)) == len(short)


@settings(max_examples=60, deadline=None)
@given(orders(), st.integers(0, 100))
def test_an_order_begun_at_any_step_goes_on_as_if_never_left(order: Order, step: int) -> None:
    whole = list(islice(order.batches(0), step + 3))
    resumed = list(islice(order.batches(step), 3))
    for (epoch, samples), (known_epoch, known) in zip(resumed, whole[step:], strict=True):
        assert epoch == known_epoch
        assert np.array_equal(samples, known)


@settings(max_examples=60, deadline=None)
@given(orders())
def test_a_window_of_shards_is_left_before_the_next_begins(order: Order) -> None:
    one_class = Order(order.shards, np.zeros_like(order.classes), order.batch, order.window, order.seed)
    taken = np.concatenate([samples for _, samples in islice(one_class.batches(0), one_class.steps)])
    seen: list[int] = []  # shards, as they come first
    for shard in order.shards[taken].tolist():
        if shard not in seen:
            seen.append(shard)
    window = {shard: number // order.window for number, shard in enumerate(seen)}
    of_samples = [window[shard] for shard in order.shards[taken].tolist()]
    assert of_samples == sorted(of_samples)


def test_epochs_and_seeds_differ() -> None:
    shards, classes = np.arange(64) // 4, np.zeros(64, dtype=np.int64)
    first = [Order(shards, classes, 64, 8, seed) for seed in (1, 2)]
    epochs = [samples.tobytes() for order in first for _, samples in islice(order.batches(0), 3)]
    assert len(set(epochs)) == 6


def test_samples_of_a_window_are_mixed() -> None:
    order = Order(np.arange(64) // 16, np.zeros(64, dtype=np.int64), 16, 2, 1)
    assert all(len(set(order.shards[samples].tolist())) == 2 for _, samples in islice(order.batches(0), 4))


def test_the_order_is_the_same_on_every_machine() -> None:
    order = Order(np.arange(8) // 2, np.array([32, 48] * 4), 3, 2, 7)
    assert [samples.tolist() for _, samples in islice(order.batches(0), order.steps)] == [
        [2, 6, 0],
        [7, 3, 5],
        [4],
        [1],
    ]
