"""Collated batches: shapes, fillers and shifted decoder inputs."""

from __future__ import annotations

import pickle

import pytest
import torch
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

from sharpseq.data import CausalCollator, EncodedExample, SequenceCollator

EXAMPLES = [
    EncodedExample(7, [5, 6, 8, 0], [9, 0]),
    EncodedExample(2, [5, 0], [9, 5, 6, 8, 0]),
    EncodedExample(11, [0], [0]),
]


def test_one_pass_batch() -> None:
    batch = SequenceCollator(1)(EXAMPLES)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 8, 0], [5, 0, 1, 1], [0, 1, 1, 1]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]],
        "labels": [[9, 0, -100, -100, -100], [9, 5, 6, 8, 0], [0, -100, -100, -100, -100]],
        "example_ids": [7, 2, 11],
    }
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_decoder_inputs_are_those_of_hugging_face() -> None:
    batch = SequenceCollator(1, decoder_start_token_id=3)(EXAMPLES)
    expected = shift_tokens_right(batch["labels"], 1, 3)
    assert torch.equal(batch["decoder_input_ids"], expected)
    assert batch["decoder_input_ids"][1].tolist() == [3, 9, 5, 6, 8]
    # The labels are left as they were.
    assert batch["labels"].tolist() == SequenceCollator(1)(EXAMPLES)["labels"].tolist()


def test_padding_to_a_multiple() -> None:
    batch = SequenceCollator(1, decoder_start_token_id=0, pad_to_multiple_of=8)(EXAMPLES)
    for name in ("input_ids", "attention_mask", "labels", "decoder_input_ids"):
        assert batch[name].shape == (3, 8)
    assert batch["attention_mask"].sum() == 7
    assert (batch["labels"] != -100).sum() == 8


@pytest.mark.parametrize("start", [None, 0])
def test_batch_of_empty_targets(start: int | None) -> None:
    batch = SequenceCollator(1, decoder_start_token_id=start)([EncodedExample(0, [0], [])])
    assert batch["labels"].tolist() == [[-100]]


def test_survives_pickling() -> None:
    collator = SequenceCollator(1, pad_to_multiple_of=4)
    assert pickle.loads(pickle.dumps(collator)) == collator


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="`pad_to_multiple_of` must be at least 1; got 0"):
        SequenceCollator(1, pad_to_multiple_of=0)
    with pytest.raises(ValueError, match="`examples` must hold at least one example"):
        SequenceCollator(1)([])


CAUSAL = [EncodedExample(4, [5, 6, 7], [8, 0]), EncodedExample(2, [5], [8, 9, 0]), EncodedExample(3, [5, 6], [])]


def test_a_causal_row_is_prompt_and_target_and_only_the_target_is_scored() -> None:
    batch = CausalCollator(1)(CAUSAL)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 0], [5, 8, 9, 0, 1], [5, 6, 1, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1] * 4 + [0], [1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100] * 3 + [8, 0], [-100, 8, 9, 0, -100], [-100] * 5]
    assert batch["example_ids"].tolist() == [4, 2, 3]
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())


def test_padding_that_is_the_end_token_is_not_mistaken_for_it() -> None:
    batch = CausalCollator(0)(CAUSAL)
    assert batch["labels"].tolist() == CausalCollator(1)(CAUSAL)["labels"].tolist()
    assert batch["attention_mask"].tolist() == CausalCollator(1)(CAUSAL)["attention_mask"].tolist()


def test_causal_width_is_rounded_up() -> None:
    batch = CausalCollator(1, pad_to_multiple_of=4)(CAUSAL)
    assert {batch[name].shape for name in ("input_ids", "attention_mask", "labels")} == {(3, 8)}


def test_causal_bad_input() -> None:
    with pytest.raises(ValueError, match="`pad_to_multiple_of` must be at least 1; got 0"):
        CausalCollator(1, pad_to_multiple_of=0)
    with pytest.raises(ValueError, match="`examples` must hold at least one example"):
        CausalCollator(1)([])
    with pytest.raises(ValueError, match="`examples` must have a prompt each; example 9 has empty `input_ids`"):
        CausalCollator(1)([EncodedExample(9, [], [8, 0])])
