"""What providers say instead of answering, in their own words, and what we make of it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from partsong.errors import Cause
from partsong.providers.rejection import Rejection, read_problem, read_rejection

KEY = "sk-secret-0123456789"


def rejection(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Rejection:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_rejection(status, headers or {}, body, KEY)


def openai(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


@pytest.mark.parametrize(
    ("status", "value", "cause"),
    [
        (400, openai("Unknown parameter: 'x'."), "refused"),
        (400, openai("API key not valid. Please pass a valid API key."), "auth"),
        (400, openai("Incorrect API key provided: no"), "auth"),
        (400, openai("Your credit balance is too low to access the API.", type="invalid_request_error"), "billing"),
        (400, openai("This model's maximum context length is 8192 tokens.", code="context_length_exceeded"), "window"),
        (400, openai("prompt is too long: 210000 tokens > 200000 maximum"), "window"),
        (400, openai("the request exceeds the available context size", type="exceed_context_size_error"), "window"),
        (400, openai("The input token count (2000000) exceeds the maximum number of tokens allowed"), "window"),
        (
            400,
            openai("max_tokens is too large: 100000. This model supports at most 16384 completion tokens"),
            "refused",
        ),
        (400, openai("The response was filtered", code="content_filter"), "content_filter"),
        (400, openai("rejected", code="content_policy_violation"), "content_filter"),
        (400, openai("Input data may contain inappropriate content.", code="data_inspection_failed"), "content_filter"),
        (401, openai("no"), "auth"),
        (402, openai("Insufficient credits"), "billing"),
        (403, openai("You are not allowed to sample from this model"), "auth"),
        (403, openai("billing is not enabled for this account"), "billing"),
        (403, openai("Your input was flagged", metadata={"reasons": ["violence"]}), "content_filter"),
        (404, openai("The model `x` does not exist", code="model_not_found"), "refused"),
        (405, b"", "refused"),
        (408, b"", "timeout"),
        (413, openai("Request too large", type="request_too_large"), "window"),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, "refused"),
        (429, openai("Rate limit reached", type="requests", code="rate_limit_exceeded"), "rate"),
        (429, openai("You exceeded your current quota, please check your plan and billing details."), "rate"),
        (
            429,
            openai("You exceeded your current quota, please check your plan and billing.", code="insufficient_quota"),
            "billing",
        ),
        (429, openai("Insufficient balance"), "billing"),
        (429, openai("Request too large for m on tokens per min (TPM)", code="rate_limit_exceeded"), "rate"),
        (500, openai("The server had an error"), "server"),
        (500, openai("the prompt exceeds the context window"), "window"),
        (502, b"<html><title>502 Bad Gateway</title></html>", "server"),
        (503, openai("overloaded"), "server"),
        (504, b"", "timeout"),
        (520, b"", "server"),
        (524, b"", "timeout"),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "server"),
        (301, b"", "refused"),
        (204, b"", "refused"),
    ],
)
def test_a_status_and_its_words_have_a_cause(status: int, value: Any, cause: Cause) -> None:
    assert rejection(status, value).cause == cause
    error = rejection(status, value).error()
    assert error.cause == cause
    assert error.status == status


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (openai("slow down", code=429), "rate"),
        (openai("slow down", code="429"), "rate"),
        (openai("no money", code=402), "billing"),
        (openai("slow down", type="rate_limit_error"), "rate"),
        (openai("no", type="authentication_error"), "auth"),
        (openai("no", type="invalid_request_error"), "refused"),
        (openai("busy", type="overloaded_error"), "server"),
        (openai("late", type="timeout_error"), "timeout"),
        (openai("late", status="DEADLINE_EXCEEDED"), "timeout"),
        (openai("stopped", code="content_filter"), "content_filter"),
        (openai("longer than the context length", type="invalid_request_error"), "window"),
        (openai("insufficient balance"), "billing"),
        (openai("what is this"), "server"),
        ({"error": "what is this"}, "server"),
        ("what is this", "server"),
        (openai("what", code=10**30), "server"),
        (openai("what", code={"a": 1}), "server"),
    ],
)
def test_an_error_in_the_middle_of_a_stream_has_a_cause(value: Any, cause: Cause) -> None:
    assert read_problem(json.dumps(value).encode(), KEY).cause == cause


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (openai("The server had an error."), "HTTP 500 Internal Server Error: The server had an error."),
        ([{"error": {"code": 500, "message": "In a list."}}], "HTTP 500 Internal Server Error: In a list."),
        ({"error": "A string."}, "HTTP 500 Internal Server Error: A string."),
        ({"message": "On top."}, "HTTP 500 Internal Server Error: On top."),
        ({"object": "error", "message": {"detail": [{"msg": "Deep."}]}}, "HTTP 500 Internal Server Error: Deep."),
        ({"detail": [{"msg": "One."}, {"msg": "Two."}]}, "HTTP 500 Internal Server Error: One.; Two."),
        (
            {"error": {"message": "Provider returned error", "code": 500, "metadata": {"raw": "The real one."}}},
            "HTTP 500 Internal Server Error: Provider returned error: The real one.",
        ),
        (b"Plain\n\twords\x1b[31m.", "HTTP 500 Internal Server Error: Plain words [31m."),
        (b"<html><head><TITLE>Down &amp; out</TITLE>", 'HTTP 500 Internal Server Error: a web page, "Down &amp; out"'),
        (b"<html>", "HTTP 500 Internal Server Error: a web page"),
        (b"", "HTTP 500 Internal Server Error"),
        (b"\xff\xfe", "HTTP 500 Internal Server Error: \ufffd\ufffd"),
        ({"error": None}, "HTTP 500 Internal Server Error"),
        (7, "HTTP 500 Internal Server Error"),
        (b"[" * 5000, f"HTTP 500 Internal Server Error: {'[' * 299}…"),
    ],
)
def test_the_providers_own_words_are_passed_on(value: Any, words: str) -> None:
    assert rejection(500, value).message == words


@pytest.mark.parametrize(
    ("words", "window"),
    [
        # OpenAI, and those that use its words: vLLM, DeepSeek, Together, OpenRouter
        (
            (
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 8545 tokens."
                " Please reduce the length of the messages."
            ),
            8192,
        ),
        (
            (
                "This model's maximum context length is 4097 tokens, however you requested 4116 tokens (3860 in your"
                " prompt; 256 for the completion). Please reduce your prompt; or completion length."
            ),
            4097,
        ),
        (
            (
                "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in"
                " the messages, 10000 in the completion). Please reduce the length of the messages or completion."
            ),
            16384,
        ),
        (
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 2000. This model's maximum context length is"
                " 4096 tokens and your request has 2104 input tokens (2000 > 4096 - 2104)."
            ),
            4096,
        ),
        (
            (
                "This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens"
                " (139000 of text input, 1000 in the output). Please reduce the length of either one."
            ),
            131072,
        ),
        ("The decoder prompt (length 12345) is longer than the maximum model length of 8192.", 8192),
        (
            (
                "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 290101 tokens."
                " Please reduce the length of the messages."
            ),
            272000,
        ),
        ("Your input exceeds the context window of this model. Please adjust your input and try again.", None),
        # Anthropic
        ("prompt is too long: 213462 tokens > 200000 maximum", 200000),
        ("prompt is too long: 1,000,500 tokens > 1,000,000 maximum", 1_000_000),
        (
            (
                "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length or"
                " `max_tokens` and try again"
            ),
            200000,
        ),
        # Gemini
        ("The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).", 1048575),
        ("The input token count exceeds the maximum number of tokens allowed 1048576.", 1048576),
        # xAI, Mistral, Fireworks, Cerebras, Moonshot, Alibaba, GitHub
        ("This model's maximum prompt length is 131072 but the request contains 136973 tokens.", 131072),
        ("Prompt contains 300000 tokens, too large for model with 131072 maximum context length", 131072),
        ("The prompt is too long: 203557, model maximum context length: 196607", 196607),
        ("Please reduce the length of the messages or completion. Current length is 42328 while limit is 40000", 40000),
        ("Invalid request: Your request exceeded model token limit: 262144 (requested: 291351)", 262144),
        ("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]", 30720),
        ("Request body too large for gpt-4o model. Max size: 8000 tokens.", 8000),
        ("prompt token count of 140123 exceeds the limit of 128000", 128000),
        # what runs on one's own machines
        ("request (631 tokens) exceeds the available context size (512 tokens), try increasing it", 512),
        ("The input (61709 tokens) is longer than the model's context length (40960 tokens).", 40960),
        ("Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).", 59862),
        ("Input length (265330) exceeds model's maximum context length (262144).", 262144),
        (
            (
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3474 `inputs`"
                " tokens and 60 `max_new_tokens`"
            ),
            2048,
        ),
        (
            (
                "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with"
                " context length of only 4096 tokens, which is not enough."
            ),
            4096,
        ),
        # numbers that are no window
        ("prompt too long; exceeded max context length by 4096 tokens", None),
        ("invalid params, context window exceeds limit (2013)", None),
        ("too many tokens: size limit exceeded by 1203 tokens. Try using shorter or fewer inputs.", None),
        ("context_length_exceeded", None),
        ("the context length is 12", None),
        (f"This model's maximum context length is {'9' * 5000} tokens", None),
    ],
)
def test_a_request_that_is_too_long_often_tells_the_window(words: str, window: int | None) -> None:
    found = rejection(400, openai(words))
    assert found.cause == "window"
    assert found.window == found.error().window == window


def test_the_window_is_found_wherever_it_stands_and_only_where_it_is_one() -> None:
    structured = openai(
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        type="exceed_context_size_error",
        n_prompt_tokens=14429,
        n_ctx=8192,
    )
    assert rejection(400, structured).window == 8192
    assert read_problem(json.dumps(structured).encode(), KEY).error().window == 8192
    inner = {"message": "This model's maximum context length is 32768 tokens."}
    nested = openai("Provider returned error", metadata={"raw": json.dumps({"error": inner})})
    assert rejection(400, nested).window == 32768
    assert rejection(413, openai("Request exceeds max size: 33554432 bytes")).window is None
    tpm = openai("Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 7231")
    assert rejection(413, tpm).window is None
    # Words on a window in an error of another kind are not its window.
    assert rejection(429, openai("This model's maximum context length is 8192 tokens")).error().window is None


def test_an_unknown_status_has_no_name() -> None:
    assert rejection(529, b"").message == "HTTP 529"


def test_a_redirection_says_where_to() -> None:
    moved = rejection(301, b"", {"Location": "https://elsewhere.example/v1"})
    assert moved.message == (
        "HTTP 301 Moved Permanently, a redirection to https://elsewhere.example/v1: set that as base_url"
    )


def test_the_key_is_in_nothing_that_is_said() -> None:
    for body in (openai(f"Incorrect API key provided: {KEY}."), f"no {KEY}".encode(), {"detail": KEY}):
        found = rejection(401, body, {"Location": KEY})
        assert KEY not in repr(found)
        assert "[key]" in found.message
    assert KEY not in rejection(302, b"", {"Location": f"https://x/?key={KEY}"}).message
    assert KEY not in repr(read_problem(json.dumps(openai(KEY)).encode(), KEY))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "0"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"retry-after-ms": "soon", "Retry-After": "1"}, 1.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:29:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 -0000", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
    ],
)
def test_how_long_to_wait(headers: Mapping[str, str], seconds: float | None) -> None:
    found = rejection(429, b"", headers)
    assert found.retry_after == seconds
    assert found.error().retry_after == seconds
