"""Every field of a request that the three APIs document, and what becomes of it: the rows that `test_fields` checks.

A row is one type of the official clients'. Each of its fields stands with a value that says something, in one of three
places: `honoured` (what is asked of the mixture is another request), `ignored` (it is the same, for the reason given),
or `refused` (with an error that names the field). What is refused whole, by its type, needs no row.

The types in `TOLD` are what other services' own tools did: each of their fields but bookkeeping is told in words.
"""

from typing import Any

from msgspec import Struct


class Beside(Struct, frozen=True):
    """A value that only says something with other fields beside it."""

    value: Any
    others: dict[str, Any]


class Row(Struct, frozen=True):
    """A type: an object of it with no more than it needs, and its fields. `within` is where alone it may stand.

    A `single` one stands by itself where those of other types stand in a list.
    """

    base: dict[str, Any]
    honoured: dict[str, Any] = {}
    ignored: dict[str, tuple[Any, str]] = {}
    refused: dict[str, Any] = {}
    within: str = ""
    single: bool = False


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
USER = {"role": "user", "content": "x"}
DATA = "data:image/png;base64,AAAA"
FILE = "data:application/pdf;base64,AAAA"
LABEL = "it is only a label"
OF_CACHE = "it is about the provider's cache, not about the answer"
PADDING = "nothing is padded here, so there is no more or less of it"
BOOKKEEPING = "it is the API's own bookkeeping of what was said; the words themselves are read"
STRICT = "the answer always fits the schema"

FUNCTION = {"name": "weather", "parameters": SCHEMA}
CACHED = Row(
    {"mode": "explicit"},
    ignored={
        "mode": ("explicit", "it has no other value"),
        "ttl": ("12h", "an hour is the longest that is asked of any provider"),
    },
)
CHAT: dict[str, Row] = {
    "CompletionCreateParamsStreaming": Row(
        {"model": "m", "messages": [USER], "tools": [{"type": "function", "function": FUNCTION}]},
        {
            "messages": [{"role": "user", "content": "y"}, USER],
            "model": "n",
            "frequency_penalty": 0.5,
            "function_call": Beside({"name": "weather"}, {"functions": [FUNCTION], "tools": None}),
            "functions": Beside([FUNCTION], {"tools": None}),
            "max_completion_tokens": 9,
            "max_tokens": 9,
            "metadata": {"a": "b"},
            "n": 2,
            "parallel_tool_calls": False,
            "presence_penalty": 0.5,
            "prompt_cache_key": "k",
            "reasoning_effort": "low",
            "response_format": {"type": "json_object"},
            "safety_identifier": "s",
            "seed": 1,
            "stop": "x",
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "tools": [{"type": "function", "function": {"name": "clock"}}],
            "top_p": 0.5,
            "user": "u",
            "verbosity": "low",
        },
        {
            "prompt_cache_options": ({"mode": "explicit"}, OF_CACHE),
            "prompt_cache_retention": ("24h", OF_CACHE),
            "store": (True, "whether runs are kept is said where the server is started"),
        },
        {
            "audio": {"voice": "alloy", "format": "mp3"},
            "logit_bias": {"1": 1},
            "logprobs": True,
            "modalities": ["audio"],
            "moderation": {"model": "m"},
            "prediction": {"type": "content", "content": "x"},
            "service_tier": "flex",
            "top_logprobs": 2,
            "web_search_options": {"search_context_size": "low"},
        },
    ),
    "ChatCompletionDeveloperMessageParam": Row(
        {"role": "developer", "content": "x"}, {"content": [{"type": "text", "text": "y"}], "name": "Ann"}
    ),
    "ChatCompletionSystemMessageParam": Row({"role": "system", "content": "x"}, {"content": "y", "name": "Ann"}),
    "ChatCompletionUserMessageParam": Row(USER, {"content": [{"type": "text", "text": "y"}], "name": "Ann"}),
    "ChatCompletionAssistantMessageParam": Row(
        {"role": "assistant", "content": "x"},
        {
            "content": [{"type": "text", "text": "y"}],
            "function_call": {"name": "weather", "arguments": "{}"},
            "name": "Ann",
            "refusal": "No.",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        refused={"audio": {"id": "a"}},
    ),
    "ChatCompletionToolMessageParam": Row(
        {"role": "tool", "content": "x", "tool_call_id": "c"}, {"content": "y", "tool_call_id": "d"}
    ),
    "ChatCompletionFunctionMessageParam": Row(
        {"role": "function", "content": "x", "name": "weather"}, {"content": "y", "name": "clock"}
    ),
    "ChatCompletionContentPartTextParam": Row(
        {"type": "text", "text": "x"}, {"text": "y", "prompt_cache_breakpoint": {"mode": "explicit"}}
    ),
    "ChatCompletionContentPartImageParam": Row(
        {"type": "image_url", "image_url": {"url": DATA}},
        {"image_url": {"url": "https://e.org"}, "prompt_cache_breakpoint": {"mode": "explicit"}},
    ),
    "File": Row(
        {"type": "file", "file": {"file_data": FILE}},
        {"file": {"file_data": FILE, "filename": "a.pdf"}, "prompt_cache_breakpoint": {"mode": "explicit"}},
    ),
    "FileFile": Row(
        {"file_data": FILE},
        {"file_data": "data:text/plain;base64,BBBB", "filename": "a.pdf"},
        refused={"file_id": "f"},
    ),
    "FilePromptCacheBreakpoint": CACHED,
    "ImageURL": Row({"url": DATA}, {"url": "https://e.org", "detail": "low"}),
    "PromptCacheBreakpoint": CACHED,
    "ChatCompletionContentPartRefusalParam": Row(
        {"type": "refusal", "refusal": "No."},
        {"refusal": "Never."},
        within="ChatCompletionAssistantMessageParam",
    ),
    "chat_completion_assistant_message_param.FunctionCall": Row(
        {"name": "weather", "arguments": "{}"}, {"name": "clock", "arguments": '{"a":1}'}
    ),
    "ChatCompletionMessageFunctionToolCallParam": Row(
        {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
        {"id": "d", "function": {"name": "clock", "arguments": "{}"}},
    ),
    "ChatCompletionMessageCustomToolCallParam": Row(
        {"id": "c", "type": "custom", "custom": {"name": "weather", "input": "x"}},
        {"id": "d", "custom": {"name": "clock", "input": "x"}},
    ),
    "chat_completion_message_custom_tool_call_param.Custom": Row(
        {"name": "weather", "input": "x"}, {"name": "clock", "input": "y"}
    ),
    "ChatCompletionCustomToolParam": Row(
        {"type": "custom", "custom": {"name": "weather"}}, {"custom": {"name": "clock"}}
    ),
    "chat_completion_custom_tool_param.Custom": Row(
        {"name": "weather"},
        {
            "name": "clock",
            "description": "Tells.",
            "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: WORD"}},
        },
    ),
    "CustomFormatText": Row({"type": "text"}),
    "CustomFormatGrammar": Row(
        {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: WORD"}},
        {"grammar": {"syntax": "regex", "definition": "a+"}},
    ),
    "CustomFormatGrammarGrammar": Row(
        {"syntax": "lark", "definition": "start: WORD"}, {"syntax": "regex", "definition": "a+"}
    ),
    "ChatCompletionNamedToolChoiceCustomParam": Row(
        {"type": "custom", "custom": {"name": "weather"}},
        ignored={"custom": ({"name": "weather"}, "it is the only one that is declared")},
    ),
    "chat_completion_message_function_tool_call_param.Function": Row(
        {"name": "weather", "arguments": "{}"}, {"name": "clock", "arguments": '{"a":1}'}
    ),
    "ChatCompletionFunctionCallOptionParam": Row(
        {"name": "weather"}, ignored={"name": ("weather", "it is the only one that is declared")}
    ),
    "completion_create_params.Function": Row(
        {"name": "weather"}, {"name": "clock", "description": "Tells.", "parameters": SCHEMA}
    ),
    "ResponseFormatText": Row({"type": "text"}),
    "ResponseFormatJSONObject": Row({"type": "json_object"}),
    "ResponseFormatJSONSchema": Row(
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        {"json_schema": {"name": "n", "schema": SCHEMA}},
    ),
    "JSONSchema": Row(
        {"name": "n", "schema": {"type": "object"}},
        {"schema": SCHEMA, "description": "Where."},
        {"name": ("o", LABEL), "strict": (True, STRICT)},
    ),
    "ChatCompletionStreamOptionsParam": Row({}, {"include_usage": True}, {"include_obfuscation": (True, PADDING)}),
    "ChatCompletionAllowedToolChoiceParam": Row(
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]},
        },
        {
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "weather"}}],
            }
        },
    ),
    "ChatCompletionAllowedToolsParam": Row(
        {"mode": "auto", "tools": [{"type": "function", "function": {"name": "weather"}}]},
        {"mode": "required"},
        {"tools": ([{"type": "function", "function": {"name": "weather"}}] * 2, "said twice, it is the same")},
    ),
    "ChatCompletionNamedToolChoiceParam": Row(
        {"type": "function", "function": {"name": "weather"}},
        ignored={"function": ({"name": "weather"}, "it is the only one that is declared")},
    ),
    "ChatCompletionFunctionToolParam": Row(
        {"type": "function", "function": {"name": "weather"}}, {"function": {"name": "clock"}}
    ),
    "FunctionDefinition": Row(
        {"name": "weather"}, {"name": "clock", "description": "Tells.", "parameters": SCHEMA, "strict": True}
    ),
}

TEXT = {"type": "text", "text": "x"}
WISH = {"type": "ephemeral"}
TOOL = {"name": "weather", "input_schema": SCHEMA}
ASSISTANT, RESULT = "AssistantMessageParam", "ToolResultBlockParam"
SHOWN = "the reasoning is shown as its model shows it"
BOUND = "thoughts are not checked against the conversation here"
CITED = "what the answer cited is not read; its words are"


def client_run(kind: str, name: str, ignored: dict[str, tuple[Any, str]] | None = None) -> Row:
    """A tool of Anthropic's that its client runs."""
    return Row(
        {"type": kind, "name": name},
        {
            "cache_control": WISH,
            "defer_loading": True,
            "input_examples": [{"command": "ls"}],
            "strict": True,
        },
        {"name": (name, "it has no other value"), **(ignored or {})},
        {"allowed_callers": ["code_execution_20260120"]},
    )


IN_HEADER = "clients send it as a header, of which nothing is made"
MESSAGES: dict[str, Row] = {
    "MessageCreateParamsStreaming": Row(
        {"model": "m", "max_tokens": 9, "messages": [USER], "tools": [TOOL]},
        {
            "max_tokens": 8,
            "messages": [{"role": "user", "content": "y"}, USER],
            "model": "n",
            "cache_control": WISH,
            "metadata": {"user_id": "u"},
            "output_config": {"effort": "low"},
            "stop_sequences": ["x"],
            "stream": True,
            "system": [TEXT],
            "thinking": {"type": "adaptive"},
            "tool_choice": {"type": "any"},
            "tools": [{"name": "clock", "input_schema": SCHEMA}],
        },
        {
            "betas": (["x"], IN_HEADER),
            "context_management": (
                {"edits": [{"type": "clear_thinking_20251015"}]},
                "what was thought in earlier turns is not what a mixture answers from",
            ),
            "diagnostics": ({"previous_message_id": "x"}, OF_CACHE),
            "service_tier": ("standard_only", "there is no other tier here"),
            "user_profile_id": ("x", IN_HEADER),
            "workspace_id": ("x", IN_HEADER),
        },
        {
            "billing_policy": {"type": "billing_policy", "bill_to": "user_profile"},
            "compaction": {"type": "summarize"},
            "container": "c",
            "fallback_credit_token": "t",
            "fallbacks": [{"model": "x"}],
            "inference_geo": "us",
            "mcp_servers": [{"type": "url", "name": "x", "url": "https://e.org"}],
            "speed": "fast",
            "thread": {"type": "create"},
        },
    ),
    "UserMessageParam": Row(USER, {"content": [{"type": "text", "text": "y"}]}),
    "AssistantMessageParam": Row({"role": "assistant", "content": "x"}, {"content": [{"type": "text", "text": "y"}]}),
    "SystemMessageParam": Row(
        {"role": "system", "content": "x"},
        {"content": [{"type": "text", "text": "y"}], "clear_at": "next_user_message"},
        refused={"output_config": {"effort": "low"}},
    ),
    "TextBlockParam": Row(
        TEXT,
        {"text": "y", "cache_control": WISH},
        {
            "citations": (
                [{"type": "char_location", "cited_text": "x", "document_index": 0}],
                CITED,
            )
        },
    ),
    "CacheControlEphemeralParam": Row(WISH, {"ttl": "1h"}),
    "ImageBlockParam": Row(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"source": {"type": "url", "url": "https://e.org"}, "cache_control": WISH, "transformations": None},
    ),
    "ImageTransformationsParam": Row({}, refused={"oversized_image": "error"}),
    "Base64ImageSourceParam": Row(
        {"type": "base64", "media_type": "image/png", "data": "AAAA"}, {"data": "BBBB", "media_type": "image/gif"}
    ),
    "URLImageSourceParam": Row({"type": "url", "url": "https://e.org"}, {"url": "https://e.com"}),
    "DocumentBlockParam": Row(
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
        {
            "source": {"type": "content", "content": "y"},
            "cache_control": WISH,
            "context": "c",
            "title": "t",
            "citations": None,
        },
    ),
    "Base64PDFSourceParam": Row(
        {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
        {"data": "BBBB"},
        {"media_type": ("application/pdf", "it has no other value")},
    ),
    "PlainTextSourceParam": Row(
        {"type": "text", "media_type": "text/plain", "data": "x"},
        {"data": "y"},
        {"media_type": ("text/plain", "it has no other value")},
    ),
    "ContentBlockSourceParam": Row({"type": "content", "content": "x"}, {"content": [{"type": "text", "text": "y"}]}),
    "CitationsConfigParam": Row({}, refused={"enabled": True}),
    "SearchResultBlockParam": Row(
        {"type": "search_result", "title": "t", "source": "s", "content": [TEXT]},
        {
            "content": [{"type": "text", "text": "y"}],
            "source": "r",
            "title": "u",
            "cache_control": WISH,
            "citations": None,
        },
    ),
    "ThinkingBlockParam": Row(
        {"type": "thinking", "thinking": "x", "signature": "s"}, {"thinking": "y", "signature": "t"}, within=ASSISTANT
    ),
    "RedactedThinkingBlockParam": Row({"type": "redacted_thinking", "data": "x"}, {"data": "y"}, within=ASSISTANT),
    "ToolUseBlockParam": Row(
        {"type": "tool_use", "id": "c", "name": "weather", "input": {}},
        {"id": "d", "name": "clock", "input": {"a": 1}, "cache_control": WISH},
        {"caller": ({"type": "direct"}, "the model itself has called, as ever")},
        {"toolset_name": "browser"},
        within=ASSISTANT,
    ),
    "ToolResultBlockParam": Row(
        {"type": "tool_result", "tool_use_id": "c", "content": "x"},
        {
            "tool_use_id": "d",
            "content": [{"type": "text", "text": "y"}],
            "is_error": True,
            "cache_control": WISH,
        },
        refused={"toolset_name": "browser"},
    ),
    "ToolReferenceBlockParam": Row(
        {"type": "tool_reference", "tool_name": "weather"},
        {"tool_name": "clock", "cache_control": WISH},
        within=RESULT,
    ),
    "ServerToolUseBlockParam": Row(
        {"type": "server_tool_use", "id": "c", "name": "web_search", "input": {}},
        {"name": "web_fetch", "input": {"a": 1}, "cache_control": WISH},
        {"id": ("d", BOOKKEEPING), "caller": ({"type": "direct"}, BOOKKEEPING)},
        within=ASSISTANT,
    ),
    "WebSearchToolResultBlockParam": Row(
        {"type": "web_search_tool_result", "tool_use_id": "c", "content": []},
        {
            "content": [{"type": "web_search_result", "title": "t", "url": "u", "encrypted_content": "x"}],
            "cache_control": WISH,
        },
        {"tool_use_id": ("d", BOOKKEEPING), "caller": ({"type": "direct"}, BOOKKEEPING)},
        within=ASSISTANT,
    ),
    "WebSearchResultBlockParam": Row(
        {"type": "web_search_result", "title": "t", "url": "u", "encrypted_content": "x"},
        {"title": "s", "url": "v"},
        {"encrypted_content": ("y", "only its provider can read it"), "page_age": ("1 day", BOOKKEEPING)},
    ),
    "WebSearchToolRequestErrorParam": Row(
        {"type": "web_search_tool_result_error", "error_code": "unavailable"},
        {"error_code": "too_many_requests"},
        single=True,
    ),
    "RequestToolAdditionBlockParam": Row(
        {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "weather"}},
        {"tool": Beside({"type": "tool_reference", "name": "weather"}, {"type": "tool_removal"})},
        {"cache_control": (WISH, "it is about the tools, which bear marks of their own")},
        within="SystemMessageParam",
    ),
    "RequestToolRemovalBlockParam": Row(
        {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "weather"}},
        {"tool": {"type": "tool_reference", "name": "clock"}},
        {"cache_control": (WISH, "it is about the tools, which bear marks of their own")},
        within="SystemMessageParam",
    ),
    "ToolChangeToolReferenceParam": Row(
        {"type": "tool_reference", "name": "weather"}, {"name": "clock"}, within="RequestToolRemovalBlockParam"
    ),
    "FallbackBlockParam": Row(
        {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
        ignored={
            "from": ({"model": "c"}, "the API shows the block to no model"),
            "to": ({"model": "c"}, "the API shows the block to no model"),
            "trigger": ({}, "the API shows the block to no model"),
        },
        within=ASSISTANT,
    ),
    "MetadataParam": Row({}, {"user_id": "u"}),
    "OutputConfigParam": Row(
        {},
        {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        refused={"task_budget": {"type": "tokens", "total": 20_000}},
    ),
    "JSONOutputFormatParam": Row({"type": "json_schema", "schema": {}}, {"schema": SCHEMA}),
    "ThinkingConfigEnabledParam": Row(
        {"type": "enabled", "budget_tokens": 2000},
        {"budget_tokens": 3000},
        {"display": ("omitted", SHOWN), "block_binding": ({"prefix_mismatch_behavior": "drop_block"}, BOUND)},
    ),
    "ThinkingConfigAdaptiveParam": Row(
        {"type": "adaptive"},
        ignored={
            "display": ("omitted", SHOWN),
            "block_binding": ({"prefix_mismatch_behavior": "drop_block"}, BOUND),
        },
    ),
    "ThinkingConfigDisabledParam": Row({"type": "disabled"}),
    "ToolChoiceAutoParam": Row({"type": "auto"}, {"disable_parallel_tool_use": True}),
    "ToolChoiceAnyParam": Row({"type": "any"}, {"disable_parallel_tool_use": True}),
    "ToolChoiceNoneParam": Row({"type": "none"}),
    "ToolChoiceToolParam": Row(
        {"type": "tool", "name": "weather"},
        {"disable_parallel_tool_use": True},
        {"name": ("weather", "it is the only one that is declared")},
    ),
    "ToolParam": Row(
        {"name": "weather", "input_schema": {"type": "object"}},
        {
            "name": "clock",
            "input_schema": SCHEMA,
            "cache_control": WISH,
            "defer_loading": True,
            "description": "Tells.",
            "eager_input_streaming": True,
            "input_examples": [{"city": "Rome"}],
            "strict": True,
        },
        refused={"allowed_callers": ["code_execution_20260120"]},
    ),
    "ToolBash20241022Param": client_run("bash_20241022", "bash"),
    "ToolBash20250124Param": client_run("bash_20250124", "bash"),
    "MemoryTool20250818Param": client_run("memory_20250818", "memory"),
    "ToolTextEditor20241022Param": client_run("text_editor_20241022", "str_replace_editor"),
    "ToolTextEditor20250124Param": client_run("text_editor_20250124", "str_replace_editor"),
    "ToolTextEditor20250429Param": client_run("text_editor_20250429", "str_replace_based_edit_tool"),
    "ToolTextEditor20250728Param": client_run(
        "text_editor_20250728",
        "str_replace_based_edit_tool",
        ignored={"max_characters": (9, "it is for the client, which cuts what it shows")},
    ),
    "InputSchemaTyped": Row({"type": "object"}, {"properties": {"a": {}}, "required": ["a"]}),
}

ITEM = {"role": "user", "content": "x"}
ONLY = "it is the only one that is declared"
PHASE = "it is a hint for OpenAI's own models, and Chat Completions, in which they are asked, has no place for it"
SAID = {
    "id": ("x", BOOKKEEPING),
    "status": ("completed", BOOKKEEPING),
}
NAMESPACE = {"namespace": "n"}
DIRECT = {"caller": ({"type": "direct"}, "the model itself has called, as ever")}
PIECES = {
    "input_text": Row(
        {"type": "input_text", "text": "x"}, {"text": "y", "prompt_cache_breakpoint": {"mode": "explicit"}}
    ),
    "input_image": Row(
        {"type": "input_image", "image_url": DATA},
        {"image_url": "https://e.org", "detail": "low", "prompt_cache_breakpoint": {"mode": "explicit"}},
        refused={"file_id": "f"},
    ),
    "input_file": Row(
        {"type": "input_file", "file_data": FILE},
        {"file_data": "AAAA", "filename": "a.pdf", "prompt_cache_breakpoint": {"mode": "explicit"}},
        {"detail": ("low", "Chat Completions, in which files are sent on, has no place for it")},
        {"file_id": "f", "file_url": "https://e.org"},
    ),
}
RESPONSES: dict[str, Row] = {
    "ResponseCreateParamsStreaming": Row(
        {
            "model": "m",
            "input": "x",
            "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": None}],
        },
        {
            "include": ["reasoning.encrypted_content"],
            "input": [{"role": "user", "content": "y"}],
            "instructions": "i",
            "max_output_tokens": 9,
            "metadata": {"a": "b"},
            "model": "n",
            "background": True,
            "max_tool_calls": 1,
            "parallel_tool_calls": False,
            "previous_response_id": "resp_x",
            "prompt_cache_key": "k",
            "reasoning": {"effort": "low"},
            "safety_identifier": "s",
            "store": False,
            "stream": True,
            "temperature": 0.5,
            "text": {"verbosity": "low"},
            "tool_choice": {"type": "function", "name": "weather"},
            "tools": [{"type": "function", "name": "clock"}],
            "top_p": 0.5,
            "truncation": "auto",
            "user": "u",
        },
        {
            "image": ({"context_compression": "disabled"}, "pictures are passed on as they are"),
            "prompt_cache_options": ({"mode": "explicit"}, OF_CACHE),
            "prompt_cache_retention": ("24h", OF_CACHE),
            "stream_options": ({"include_obfuscation": True}, PADDING),
        },
        {
            "access_programs": {"cyber": "standard"},
            "background_options": {"completion_window": "2h"},
            "context_management": [{"type": "compaction"}],
            "conversation": "c",
            "moderation": {"model": "m"},
            "prompt": {"id": "p"},
            "service_tier": "flex",
            "top_logprobs": 2,
        },
    ),
    "EasyInputMessageParam": Row(
        ITEM, {"content": [{"type": "input_text", "text": "y"}]}, {"phase": ("commentary", PHASE)}
    ),
    "response_input_param.Message": Row(
        {"type": "message", **ITEM}, {"content": "y"}, {"status": ("completed", BOOKKEEPING)}
    ),
    "ResponseOutputMessageParam": Row(
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
        {"content": [{"type": "output_text", "text": "y"}]},
        {**SAID, "phase": ("commentary", PHASE)},
    ),
    "ResponseOutputTextParam": Row(
        {"type": "output_text", "text": "x"},
        {"text": "y"},
        {"annotations": ([{"type": "file_path", "file_id": "f", "index": 0}], CITED), "logprobs": ([], BOOKKEEPING)},
        within="ResponseOutputMessageParam",
    ),
    "ResponseOutputRefusalParam": Row(
        {"type": "refusal", "refusal": "No."}, {"refusal": "Never."}, within="ResponseOutputMessageParam"
    ),
    "ResponseInputTextParam": PIECES["input_text"],
    "ResponseInputTextContentParam": PIECES["input_text"],
    "ResponseInputImageParam": PIECES["input_image"],
    "ResponseInputImageContentParam": PIECES["input_image"],
    "ResponseInputFileParam": PIECES["input_file"],
    "ResponseInputFileContentParam": PIECES["input_file"],
    "PromptCacheBreakpoint": CACHED,
    "ResponseFunctionToolCallParam": Row(
        {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
        {"call_id": "d", "name": "clock", "arguments": '{"a":1}'},
        {**SAID, **DIRECT},
        {"async": True, **NAMESPACE},
    ),
    "FunctionCallOutput": Row(
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"call_id": "d", "output": [{"type": "input_text", "text": "y"}]},
        {**SAID, **DIRECT, "name": ("weather", "the call that it answers names it")},
        NAMESPACE,
    ),
    "ItemReference": Row({"type": "item_reference", "id": "msg_a_0"}, {"id": "msg_b_0"}),
    "ResponseCustomToolCallParam": Row(
        {"type": "custom_tool_call", "call_id": "c", "name": "weather", "input": "x"},
        {"call_id": "d", "name": "clock", "input": "y"},
        {"id": ("x", BOOKKEEPING), **DIRECT},
        {"async": True, **NAMESPACE},
    ),
    "ResponseCustomToolCallOutputParam": Row(
        {"type": "custom_tool_call_output", "call_id": "c", "output": "x"},
        {"call_id": "d", "output": [{"type": "input_text", "text": "y"}]},
        {"id": ("x", BOOKKEEPING), **DIRECT},
    ),
    "CustomToolParam": Row(
        {"type": "custom", "name": "weather"},
        {
            "name": "clock",
            "description": "Tells.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: WORD"},
        },
        refused={"allowed_callers": ["programmatic"], "async": True, "defer_loading": True},
    ),
    "custom_tool_input_format.Text": Row({"type": "text"}),
    "Grammar": Row(
        {"type": "grammar", "syntax": "lark", "definition": "start: WORD"},
        {"syntax": "regex", "definition": "a+"},
    ),
    "ToolChoiceCustomParam": Row({"type": "custom", "name": "weather"}, ignored={"name": ("weather", ONLY)}),
    "ResponseReasoningItemParam": Row(
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
        {
            "summary": [{"type": "summary_text", "text": "y"}],
            "content": Beside([{"type": "reasoning_text", "text": "y"}], {"summary": []}),
            "encrypted_content": "s",
        },
        SAID,
    ),
    "response_reasoning_item_param.Summary": Row({"type": "summary_text", "text": "x"}, {"text": "y"}),
    "response_reasoning_item_param.Content": Row({"type": "reasoning_text", "text": "x"}, {"text": "y"}),
    "Reasoning": Row(
        {},
        {"effort": "low", "generate_summary": "auto", "summary": "auto"},
        {"context": ("all_turns", "which earlier thoughts a model reads again is its provider's choice")},
        {"mode": "pro"},
    ),
    "ResponseTextConfigParam": Row({}, {"format": {"type": "json_object"}, "verbosity": "low"}),
    "ResponseFormatText": Row({"type": "text"}),
    "ResponseFormatJSONObject": Row({"type": "json_object"}),
    "ResponseFormatTextJSONSchemaConfigParam": Row(
        {"type": "json_schema", "name": "n", "schema": {"type": "object"}},
        {"schema": SCHEMA, "description": "Where.", "name": "o", "strict": True},
    ),
    "ToolChoiceAllowedParam": Row(
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
        {"mode": "required", "tools": [{"type": "function", "name": "weather"}] * 2},
    ),
    "ToolChoiceFunctionParam": Row(
        {"type": "function", "name": "weather"}, ignored={"name": ("weather", "it is the only one that is declared")}
    ),
    "FunctionToolParam": Row(
        {"type": "function", "name": "weather"},
        {
            "name": "clock",
            "description": "Tells.",
            "output_schema": SCHEMA,
            "parameters": SCHEMA,
            "strict": True,
        },
        refused={"allowed_callers": ["programmatic"], "async": True, "defer_loading": True},
    ),
}

TOLD = {
    "Chat Completions": frozenset[str](),
    "Messages": frozenset(
        {
            "WebFetchToolResultBlockParam",
            "AdvisorToolResultBlockParam",
            "CodeExecutionToolResultBlockParam",
            "BashCodeExecutionToolResultBlockParam",
            "TextEditorCodeExecutionToolResultBlockParam",
            "ToolSearchToolResultBlockParam",
            "MCPToolUseBlockParam",
            "RequestMCPToolResultBlockParam",
            "MCPToolListingBlockParam",
            "CompactionBlockParam",
        }
    ),
    "Responses": frozenset(
        {
            "ResponseFileSearchToolCallParam",
            "ResponseComputerToolCallParam",
            "ComputerCallOutput",
            "ResponseFunctionWebSearchParam",
            "ToolSearchCall",
            "ResponseToolSearchOutputItemParamParam",
            "ResponseCompactionItemParamParam",
            "ImageGenerationCall",
            "ResponseCodeInterpreterToolCallParam",
            "LocalShellCall",
            "LocalShellCallOutput",
            "ShellCall",
            "ShellCallOutput",
            "ApplyPatchCall",
            "ApplyPatchCallOutput",
            "McpListTools",
            "McpApprovalRequest",
            "McpApprovalResponse",
            "McpCall",
            "Program",
            "ProgramOutput",
        }
    ),
}
