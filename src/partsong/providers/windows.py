"""Context windows of hosted models, from the table in the package genai-prices (no network).

The table has gaps and mistakes. So its numbers are used to shorten prompts, and never to refuse one.
"""


def listed_window(base_url: str, model: str) -> int | None:
    """Return a model's context window in tokens; `None` if the model or address is not listed.

    base_url: the address of the provider's API
    model: the model's name at the provider

    The table is imported when models are made. The import takes a third of a second, by which no call may be delayed.
    """
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, known = get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    return known.context_window or None
