"""The public names, pinned: a name that comes or goes does so on purpose. And what importing them may not cost."""

import subprocess
import sys
from types import FunctionType

import partsong

NAMES = """
Agent Aggregator Analyst Answer BudgetError Configuration ConfigurationError Conversation Delta Document Image
InputError Layer Message Model ModelError PartsongError QuestionError Reasoning ReasoningDelta Recipe RecipeError
Request RunError Sampling Send StoreError Text TextDelta Tool ToolCall ToolCallDelta ToolResult Transcript Usage
WeightsError asking assemble find_configuration find_recipe open_store open_tools perform read_configuration run single
stream
"""


def test_the_public_names_are_these() -> None:
    assert partsong.__all__ == NAMES.split()
    assert all(hasattr(partsong, name) for name in partsong.__all__)


def test_what_can_be_called_says_what_it_does() -> None:
    named = [(name, getattr(partsong, name)) for name in partsong.__all__]
    silent = [name for name, thing in named if isinstance(thing, type | FunctionType) and not thing.__doc__]
    assert silent == []


def test_importing_it_imports_no_provider_and_nothing_heavy() -> None:
    code = "import sys, partsong; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = ("aiohttp", "rich", "cyclopts", "genai_prices", "xllamacpp", "uvloop", "numpy")
    assert not [name for name in loaded if name in heavy or name.startswith(("partsong.providers", "partsong.cli"))]
