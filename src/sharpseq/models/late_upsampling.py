"""Late upsampling: the encoder runs at source length, and each of its states is then split into several."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from sharpseq.decoding import EncoderOutput
from sharpseq.models.glancing import with_glances
from sharpseq.models.one_pass import OnePassConfig, OnePassModel


class UpsamplingModel(OnePassModel):
    """What families share whose target side has several states for each source token.

    Many encoder layers run at source length and few decoder layers at the upsampled length, which makes a one-pass
    model cheap. The states are a learned split of the encoder's. Saharia et al. copy embeddings instead; here the
    encoder has already read the source when the states are made.

    References:
        Libovický and Helcl 2018 (state splitting).
    """

    glances = True
    predicts_frames = True
    """Positions are frames or vertices, which have no target token of their own."""

    def __init__(self, config: OnePassConfig, *, factor: int) -> None:
        super().__init__(config)
        self.split = nn.Linear(config.d_model, factor * config.d_model)

    def upsampled_states(
        self,
        encoded: EncoderOutput,
        *,
        glanced_ids: Tensor | None = None,
        after_layer: Callable[[int, Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return decoder states (B, factor·S, D) and True for the real ones (B, factor·S), in one pass.

        Args:
            encoded: The source.
            glanced_ids: Target tokens that the decoder reads in place of its own input, shape (B, factor·S), −100 for
                none.
            after_layer: May change the states after a layer of the decoder, as in `ParallelDecoder`.
        """
        width = encoded.hidden.shape[2]
        factor = self.split.out_features // width
        states = self.split(encoded.hidden).unflatten(-1, (factor, width)).flatten(1, 2)
        if glanced_ids is not None:
            states = with_glances(states, self.embed(glanced_ids.clamp(min=0)), glanced_ids)
        mask = encoded.attention_mask.bool().repeat_interleave(factor, dim=1)
        memory = (encoded.hidden, encoded.attention_mask)
        hidden: Tensor = self.decoder(self.add_positions(states), mask, *memory, after_layer=after_layer)
        return hidden, mask
