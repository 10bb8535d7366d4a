"""The windows of hosted models, from the table that genai-prices ships (no network).

The table has gaps and mistakes. So its numbers are used to fit prompts, never to refuse one.
"""


def listed_window(base_url: str, model: str) -> int | None:
    """The model's window in tokens, `None` for a model or an address that is not listed.

    The table is imported here, when models are put together: a third of a second, which no running call should pay.
    """
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, known = get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    return known.context_window or None
