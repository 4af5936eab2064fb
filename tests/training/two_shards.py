"""What both processes of the sharding test do: score and differentiate a model split by PyTorch's fully_shard."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM

from sharpseq import ConvexComposition, Exponential
from sharpseq.scoring import ScoreRequest, score_model


def make_model(*, tied: bool) -> LlamaForCausalLM:
    """Return a tiny model, the same in every process."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config)


def make_batch(rank: int) -> dict[str, torch.Tensor]:
    """Return the batch of one process."""
    ids = torch.randint(3, 32, (3, 6), generator=torch.Generator().manual_seed(rank))
    labels = ids.clone()
    labels[0, :3] = -100
    return {"input_ids": ids, "labels": labels}


def loss_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return a loss whose gradient depends on the probabilities of whole sequences."""
    scores = score_model(model, batch, request=ScoreRequest(vocab_mean=True))
    return ConvexComposition(Exponential(2.0), label_smoothing=0.1)(scores).sum()


def one_process(output: Path) -> None:
    """Leave the gradients of a model split over the processes, of all batches together."""
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (world_size,))
    for tied in (False, True):
        model = make_model(tied=tied)
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        # Gradients are averaged over the processes: the sum is wanted. Twice, as every step splits the weights again.
        for _ in range(2):
            model.zero_grad()
            (loss_of(model, make_batch(rank)) * world_size).backward()
        assert all(isinstance(parameter.grad, DTensor) for parameter in model.parameters())
        gradients = {name: parameter.grad.full_tensor() for name, parameter in model.named_parameters()}
        if rank == 0:
            torch.save(gradients, output / f"tied_{tied}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    one_process(Path(sys.argv[1]))
