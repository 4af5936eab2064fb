"""Memory and time of one step of DPO: from hidden states, and with TRL.

Each system computes the same loss of the same pairs, forward and backward, under a policy and a frozen reference of the
same architecture. Every measurement has a process of its own. Time is the processor's, of all threads and with that of
the kernel (on a GPU: the clock). Memory is the peak resident size (on a GPU: allocated) above what both models take.

- sharpseq: `PreferenceLoss`, which scores answers where the output head is called.
- trl: ``DPOTrainer._compute_loss`` of the installed TRL.
- naive: full logits of both models and ``log_softmax``, as in DPO's first code.

    python benchmarks/bench_preferences.py --threads 1 --document docs/preferences.md
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from own_process import Measurement, in_own_process, measuring_parser, peak, reset_peak

SIZES = {"pairs": 2, "length": 512, "vocabulary": 49_152, "width": 256}
SYSTEMS = ("naive", "trl", "sharpseq")
MARKER = "preferences-memory"


def main(
    *,
    pairs: int,
    length: int,
    vocabulary: int,
    width: int,
    threads: int,
    rounds: int,
    output: Path,
    document: Path | None,
) -> None:
    """Measure all systems in turns and write numbers and table."""
    from provenance import provenance
    from run_recipes import insert

    sizes = {"pairs": pairs, "length": length, "vocabulary": vocabulary, "width": width}
    found: dict[str, list[Measurement]] = {system: [] for system in SYSTEMS}
    for turn in range(rounds):
        for system in SYSTEMS:
            found[system].append(in_own_process(__file__, [system], sizes=sizes, threads=threads))
            print(turn + 1, system, found[system][-1], flush=True)
    rows = summarize(found)
    command = f"python benchmarks/bench_preferences.py --threads {threads} --rounds {rounds} --output {output}"
    record = {"provenance": provenance(command), "sizes": {**sizes, "threads": threads, "rounds": rounds}, "rows": rows}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if document is not None:
        insert(document, MARKER, table(rows))


def summarize(found: dict[str, list[Measurement]]) -> list[dict[str, Any]]:
    """Return medians, and the ratio of memory to TRL's."""
    trl = median(run.mebibytes for run in found["trl"])
    return [
        {
            "system": system,
            "seconds": median(run.seconds for run in runs),
            "mebibytes": median(run.mebibytes for run in runs),
            "memory_ratio": median(run.mebibytes for run in runs) / trl,
            "checksum": runs[0].checksum,
            "runs": [asdict(run) for run in runs],
        }
        for system, runs in found.items()
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the rows."""
    lines = ["| system | MiB | memory × TRL | seconds |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {row['system']} | {row['mebibytes']:.0f} | {row['memory_ratio']:.2f} | {row['seconds']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def measure(system: str, *, pairs: int, length: int, vocabulary: int, width: int) -> Measurement:
    """Measure one system in this process."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy, reference = model_of(vocabulary, width, seed=0).to(device), model_of(vocabulary, width, seed=1).to(device)
    reference.requires_grad_(False).eval()
    compute = loss_of(system, policy, reference)
    compute(batch_of(1, 8, vocabulary, device)).backward()  # loads what is loaded once
    policy.zero_grad(set_to_none=True)
    batch = batch_of(pairs, length, vocabulary, device)
    before = reset_peak(device)
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    compute(batch).backward()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = clock() - start
    used = peak(device) - before
    checksum = sum(float(weight.grad.abs().sum()) for weight in policy.parameters() if weight.grad is not None)
    return Measurement(seconds, used / 2**20, checksum)


def model_of(vocabulary: int, width: int, *, seed: int) -> Any:
    """Return a Llama with a large vocabulary and few other weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, tie_word_embeddings=True, **sizes))


def batch_of(pairs: int, length: int, vocabulary: int, device: str) -> dict[str, Any]:
    """Return TRL's batch: chosen rows, then rejected ones, the second half of each an answer."""
    import torch

    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (2 * pairs, length), generator=generator)
    ids[pairs:, : length // 2] = ids[:pairs, : length // 2]
    answers = torch.zeros_like(ids)
    answers[:, length // 2 :] = 1
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "completion_mask": answers}
    return {name: values.to(device) for name, values in batch.items()}


def loss_of(system: str, policy: Any, reference: Any) -> Callable[[dict[str, Any]], Any]:
    """Return a function from a batch to the mean loss of its pairs, with β = 0.1."""
    import torch
    from torch.nn import functional as F

    if system == "sharpseq":
        from sharpseq.integrations.trl import TrlPairRows
        from sharpseq.objectives import MaximumLikelihood
        from sharpseq.objectives.preference import FDpo
        from sharpseq.training import PreferenceLoss, ScoreLoss, Step
        from sharpseq.training.preference import ModelReference

        scoring = ScoreLoss(MaximumLikelihood(), rows=TrlPairRows())
        loss = PreferenceLoss(FDpo(0.1), ModelReference(reference), scoring)
        step = Step(progress=0.0, update=0, seed=0, is_training=True)
        return lambda batch: loss(policy, batch, step).losses.mean()
    if system == "trl":
        return _loss_of_trl(policy, reference)

    def log_probs(model: Any, batch: dict[str, Any]) -> Any:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        chosen = F.log_softmax(logits[:, :-1], -1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        return (chosen * batch["completion_mask"][:, 1:]).sum(1)

    def naive(batch: dict[str, Any]) -> Any:
        with torch.no_grad():
            theirs = log_probs(reference, batch)
        better, worse = (log_probs(policy, batch) - theirs).chunk(2)
        return F.softplus(-0.1 * (better - worse)).mean()

    return naive


def _loss_of_trl(policy: Any, reference: Any) -> Callable[[dict[str, Any]], Any]:
    import tempfile

    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast
    from trl import DPOConfig, DPOTrainer

    words = Tokenizer(WordLevel({"a": 0, "b": 1, "<eos>": 2}, unk_token="a"))
    settings = {"report_to": "none", "beta": 0.1, "bf16": False, "activation_checkpointing": False}
    trainer = DPOTrainer(
        policy,
        ref_model=reference,
        args=DPOConfig(tempfile.mkdtemp(), use_cpu=policy.device.type == "cpu", **settings),
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "a", "rejected": "b"}]),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<eos>"),
    )
    policy.train()
    return lambda batch: trainer._compute_loss(policy, batch, return_outputs=False)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = measuring_parser(__doc__, num_words=1, sizes=SIZES, output="benchmarks/results/preferences.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    given = vars(parse_arguments(sys.argv[1:]))
    one = given.pop("one")
    if one:
        sizes = {name: given[name] for name in SIZES}
        print(json.dumps(asdict(measure(one[0], **sizes))))
    else:
        main(**given)
