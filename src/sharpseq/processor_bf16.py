"""Whether this processor computes in bfloat16, which it otherwise emulates, tens of times slower than float32."""

from __future__ import annotations

EMULATED = "emulated"


def cpu_bf16() -> str:
    """Name the instructions that make bf16 fast on this CPU; `EMULATED` means that bf16 runs, but slowly."""
    from torch import cpu

    # The public query exists only since torch 2.11; without it nothing reliable is known.
    query = getattr(cpu, "get_capabilities", None)
    if query is None:
        return "unknown"
    capabilities = query()
    names = [name for name in ("amx_bf16", "avx512_bf16", "bf16") if capabilities.get(name)]
    return ", ".join(names) or EMULATED


def bf16_is_slow() -> bool:
    """Return whether computing in bf16 would be slower than in float32, on this machine."""
    import torch

    return not torch.accelerator.is_available() and cpu_bf16() == EMULATED
