"""The numbers that the paper reports, by table or figure and row (arXiv 2406.04692v1).

Numbers of figures were read from the plots. The key of a row is the number of proposers, the short name of a model or
mixture, or a skill. LC % is the length-controlled win rate in percent.
"""

from collections.abc import Mapping

MODELS: Mapping[str, tuple[str, ...]] = {  # short name of a model in the paper: parts of a model id that identify it
    "Qwen1.5-110B": ("qwen1.5-110b",),
    "Qwen1.5-72B": ("qwen1.5-72b",),
    "WizardLM-8x22B": ("wizardlm-2-8x22b",),
    "LLaMA-3-70B": ("llama-3-70b", "llama3-70b", "meta-llama-3-70b"),
    "Mixtral-8x22B": ("mixtral-8x22b",),
    "dbrx": ("dbrx",),
    "GPT-4o": ("gpt-4o-2024",),
    "GPT-4 Turbo": ("gpt-4-turbo-2024-04-09", "gpt-4-turbo"),
}
ACTIVE: Mapping[str, float] = {  # billions of active parameters, for models whose name does not tell them
    "WizardLM-8x22B": 39,
    "Mixtral-8x22B": 39,
    "dbrx": 36,
}

# AlpacaEval 2.0: length-controlled and plain win rate, both in percent.
TABLE_2A: Mapping[str, tuple[float, float]] = {
    "MoA with GPT-4o": (65.7, 78.7),
    "MoA": (65.1, 59.8),
    "MoA-Lite": (59.3, 57.0),
    "GPT-4o": (57.5, 51.3),
    "GPT-4 Turbo": (55.0, 46.1),
    "WizardLM-8x22B": (51.3, 62.3),
    "Qwen1.5-110B": (43.9, 33.8),
    "Qwen1.5-72B": (36.6, 26.5),
    "LLaMA-3-70B": (34.4, 33.2),
    "Mixtral-8x22B": (30.9, 22.2),
}
# MT-Bench: the mean of both turns.
TABLE_2B: Mapping[str, float] = {
    "MoA with GPT-4o": 9.40,
    "GPT-4 Turbo": 9.31,
    "MoA": 9.25,
    "GPT-4o": 9.19,
    "MoA-Lite": 9.18,
    "Qwen1.5-110B": 8.96,
    "LLaMA-3-70B": 8.94,
    "Mixtral-8x22B": 8.78,
    "WizardLM-8x22B": 8.78,
    "Qwen1.5-72B": 8.44,
}
# AlpacaEval 2.0, LC %, by the number of proposers: if all are different models, and if all are the same model.
TABLE_3: Mapping[int, tuple[float, float]] = {6: (61.3, 56.7), 3: (58.0, 56.1), 2: (58.8, 54.5), 1: (47.8, 47.8)}
# AlpacaEval 2.0, LC %: as the aggregator of all six, and as the sole proposer (six samples).
TABLE_4: Mapping[str, tuple[float, float]] = {
    "Qwen1.5-110B": (61.3, 56.7),
    "Qwen1.5-72B": (59.3, 53.3),
    "LLaMA-3-70B": (45.0, 60.6),
    "WizardLM-8x22B": (52.9, 63.8),
    "Mixtral-8x22B": (48.4, 54.8),
    "dbrx": (41.5, 55.1),
}
# MATH, accuracy in percent, by aggregator, with 1, 2 and 3 layers.
TABLE_8: Mapping[str, tuple[float, ...]] = {
    "Qwen1.5-72B": (42.8, 52.6, 55.2),
    "Qwen1.5-110B": (50.0, 57.0, 57.6),
    "WizardLM-8x22B": (54.4, 57.4, 58.0),
    "Mixtral-8x22B": (28.2, 53.4, 55.6),
    "LLaMA-3-70B": (45.6, 58.4, 57.8),
    "dbrx": (31.4, 45.6, 52.2),
}
# FLASK, the mean of each skill (±0.03): MoA, Qwen1.5-110B, GPT-4o.
FIGURE_3: Mapping[str, tuple[float, float, float]] = {
    "robustness": (4.40, 4.17, 4.55),
    "correctness": (4.41, 4.09, 4.35),
    "efficiency": (4.57, 4.46, 4.66),
    "factuality": (4.34, 4.29, 4.31),
    "commonsense": (4.52, 4.43, 4.52),
    "comprehension": (4.43, 4.42, 4.45),
    "insightfulness": (4.29, 4.13, 3.77),
    "completeness": (4.59, 4.49, 4.45),
    "metacognition": (4.22, 4.27, 3.93),
    "readability": (4.83, 4.88, 4.93),
    "conciseness": (4.23, 4.50, 4.68),
    "harmlessness": (4.87, 4.77, 4.89),
}
# AlpacaEval 2.0, LC %, by aggregator, with 1 to 4 layers. The LLM ranker has no value for 1 layer.
FIGURE_4A: Mapping[str, tuple[float | None, ...]] = {
    "GPT-4o": (57.5, 63.1, 65.9, 64.9),
    "Qwen1.5-110B": (43.9, 61.3, 65.7, 65.1),
    "Qwen1.5-72B": (36.6, 59.3, 62.0, 64.3),
    "WizardLM-8x22B": (51.3, 52.9, 50.0, 53.3),
    "Mixtral-8x22B": (30.9, 48.4, 56.3, 58.0),
    "LLaMA-3-70B": (34.4, 45.0, 51.7, 54.6),
    "dbrx": (25.4, 41.5, 51.4, 55.0),
    "LLM ranker": (None, 42.4, 50.6, 54.5),
}
# Spearman's rho between similarity and grade of the proposals, by aggregator: three tuples, for BLEU, TF-IDF and
# Levenshtein, each with the values of the first, second and third aggregation.
FIGURE_6: Mapping[str, tuple[tuple[float, float, float], ...]] = {
    "Qwen1.5-110B": ((0.18, 0.06, 0.03), (0.14, 0.09, 0.08), (0.13, 0.09, 0.08)),
    "Qwen1.5-72B": ((0.27, 0.12, 0.13), (0.17, 0.11, 0.12), (0.17, 0.15, 0.14)),
    "WizardLM-8x22B": ((0.29, 0.15, 0.17), (0.15, 0.11, 0.13), (0.25, 0.15, 0.15)),
    "LLaMA-3-70B": ((0.30, 0.14, 0.14), (0.18, 0.10, 0.11), (0.22, 0.10, 0.10)),
    "Mixtral-8x22B": ((0.29, 0.16, 0.14), (0.19, 0.14, 0.13), (0.25, 0.16, 0.13)),
    "dbrx": ((0.26, 0.13, 0.15), (0.12, 0.08, 0.11), (0.20, 0.11, 0.14)),
}
# Dollars for an AlpacaEval instruction, and TFLOPs (summed over the layers, for the largest model of each layer).
FIGURE_5: Mapping[str, tuple[float, float]] = {
    "MoA": (0.031, 245),
    "MoA-Lite": (0.006, 137),
    "GPT-4o": (0.007, 340),
    "GPT-4 Turbo": (0.013, 325),
}

INCONSISTENT = {
    "table-2a": "the paper gives MoA 65.1 in its abstract and Table 2a, 65.8 in section 1, and 65.7 with GPT-4o",
    "table-3": "in the paper three proposers score below two, though its text says that more are always better",
    "table-4": "the paper calls LLaMA-3 versatile, at 45.0 as an aggregator",
}
CAUTIONS = (
    "the paper's reference code does not pass temperature and limit on to the last call of its evaluation",
    "Self-MoA (arXiv 2502.00674) finds one strong model sampled six times (LC 65.7) above the mixed six (59.1)",
    "Selection Bottleneck (arXiv 2603.20324) finds selecting above synthesizing; compare both on your own prompts",
)


def known_as(model: str) -> str | None:
    """Return the paper's short name for the model with this id; `None` if the paper does not have the model."""
    name = model.partition(":")[2].lower().rpartition("/")[2]
    return next(
        (short for short, marks in MODELS.items() if name == short.lower() or any(mark in name for mark in marks)), None
    )
