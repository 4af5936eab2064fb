"""Caches of keys and values whose rows can be copied and put into another order."""

from __future__ import annotations

from transformers import Cache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


def is_plain_cache(cache: object) -> bool:
    """Return whether a cache holds keys and values alone; some models keep running states too.

    Example:
        >>> from transformers import DynamicCache
        >>> is_plain_cache(DynamicCache()), is_plain_cache(None)
        (True, False)
    """
    if isinstance(cache, EncoderDecoderCache):
        return is_plain_cache(cache.self_attention_cache) and is_plain_cache(cache.cross_attention_cache)
    return isinstance(cache, Cache) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )
