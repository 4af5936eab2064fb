"""The plain Hugging Face `Trainer`: a sequence-level objective through its ``compute_loss_func``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from sharpseq.declarations import Method
from sharpseq.errors import UserError
from sharpseq.models.adapters import without_wrapper
from sharpseq.objectives import Objective, needs_of
from sharpseq.scoring import IGNORED, score_logits

LossFunction = Callable[..., Tensor]
"""What `transformers.Trainer` calls with ``(outputs, labels, num_items_in_batch=…)``."""


def compute_loss_func(objective: Objective, *, model: PreTrainedModel) -> LossFunction:
    r"""Return a ``compute_loss_func`` for `transformers.Trainer`, for those who cannot change the trainer.

    The loss is :math:`\sum_i T_i \ell_i / \sum_i T_i`, the ``token_mean`` reduction, over the whole accumulation window
    and, with ``average_tokens_across_devices`` (the default), over all processes: the number of tokens is the only
    count that the trainer hands over.

    - A mean over sequences (``sequence_mean``), ``divide_by_mean_weight``, schedules and the logged weights f'(g) need
      `sharpseq.SequenceTrainer` or `sharpseq.integrations.trl.SharpSFTTrainer`.
    - A row is one sequence. Packed or padding-free rows are not supported: their boundaries are not handed over, and
      nothing shows that they are missing.
    - The model makes its full logits, of shape (B, T, V), which the other two trainers avoid.
    - Sequence, context and tensor parallelism are not supported.
    - A seq2seq batch must have ``decoder_input_ids``: use ``DataCollatorForSeq2Seq(tokenizer, model=model)``.
    - A row without a label to learn from adds nothing to the loss; a warning says that there are some.
    - ``eval_loss`` is the mean over batches, as everywhere in this trainer.

    Args:
        objective: Turns `SequenceScores` into a loss of each sequence.
        model: The model that will be trained, with or without adapters; it says whether labels are shifted.

    Returns:
        A function of ``(outputs, labels, num_items_in_batch=None)``.

    Raises:
        ValueError: If ``objective`` changes during training. From the function: if there are no labels, they do not
            fit the logits, or the trainer would count a label that is not scored.
        UserError: From the function, when the loss is not finite.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from sharpseq import ConvexComposition, Exponential
        >>> sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 4, "intermediate_size": 4}
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=8, **sizes))
        >>> loss = compute_loss_func(ConvexComposition(Exponential(1.0)), model=model)
        >>> labels = torch.tensor([[-100, 3, 5]])
        >>> bool(loss(model(input_ids=labels.clamp(min=0)), labels) < 0)
        True
    """
    if isinstance(objective, Method) and objective.is_scheduled:
        raise ValueError(
            "`objective` changes during training, but `compute_loss_func` is not told the step: use one that does not, "
            "or SequenceTrainer"
        )
    unwrapped = without_wrapper(model)
    is_shifted = not unwrapped.config.is_encoder_decoder
    # How `Trainer` decides whether the first label of a row counts among ``num_items_in_batch``.
    counts_first = is_shifted and LOSS_MAPPING.get(str(getattr(unwrapped, "loss_type", None))) is not ForCausalLMLoss
    request = needs_of(objective)

    def loss_function(outputs: Any, labels: Tensor | None, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        if labels is None:
            raise ValueError("`labels` must be in the batch to train on")
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        if is_shifted:
            if counts_first and num_items_in_batch is not None and labels[:, 0].ne(IGNORED).any():
                raise ValueError(
                    f"`labels` of {type(unwrapped).__name__} begin with a token that the trainer counts, but that no "
                    "token before it predicts: set `labels[:, 0] = -100` in the data, or `model.loss_type = "
                    '"ForCausalLM"` before the trainer is made'
                )
            logits, labels = logits[:, :-1], labels[:, 1:]
        scores = score_logits(logits, labels.to(logits.device), request=request)
        if not scores.num_tokens.all():
            warnings.warn(
                "a row has no label to learn from, as where a prompt fills the maximum length: it adds nothing to the "
                "loss; count such rows in the data, and leave them out or raise the length",
                stacklevel=2,
            )
        total = (objective(scores) * scores.num_tokens).sum()
        count = torch.as_tensor(scores.num_tokens.sum() if num_items_in_batch is None else num_items_in_batch)
        if count.numel() > 1:
            raise ValueError("`nn.DataParallel` is not supported: use `accelerate launch`, or make one GPU visible")
        if not torch.isfinite(total):
            raise UserError("the loss is not finite; lower the learning rate or check the data")
        return total / count.to(total.device).clamp(min=1)

    return loss_function
