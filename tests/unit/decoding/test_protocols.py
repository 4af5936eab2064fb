from __future__ import annotations

import torch
from torch import nn

from sharpseq.decoding import EncoderOutput
from sharpseq.decoding.inference import inference


def test_repeat_interleave_and_index_select() -> None:
    encoded = EncoderOutput(torch.randn(3, 2, 4), torch.ones(3, 2), torch.arange(6).view(3, 2))
    repeated = encoded.repeat_interleave(2)
    assert repeated.input_ids.tolist() == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]
    assert repeated.attention_mask.shape == (6, 2)
    chosen = repeated.index_select(torch.tensor([5, 0]))
    assert chosen.input_ids.tolist() == [[4, 5], [0, 1]]
    assert torch.equal(chosen.hidden, encoded.hidden[[2, 0]])
    assert chosen.attention_mask.shape == (2, 2)


def test_inference_is_restored_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    try:
        with inference(model):
            assert not model[0].training and not torch.is_grad_enabled()
            raise KeyError
    except KeyError:
        pass
    assert [module.training for module in model.modules()] == [True, True, False]
    assert torch.is_grad_enabled()
