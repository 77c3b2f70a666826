"""The model card of a head on the Hub: what it is for, how it is used, what was measured.

Examples:
    >>> config = {"links": [], "trained_on": {}, "generator": {"class": "Generator"}}
    >>> text = card(config, "me/head", CardDetails(license="mit"))
    >>> text.splitlines()[0], "license: mit" in text, 'from_pretrained("me/head"' in text
    ('---', True, True)
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..feedback.latents import in_words
from .example import code_of_example
from .files import GENERATOR

_ADDRESS = re.compile(r"(?:\w+:/|www\.|mailto:)(?=\S)", re.IGNORECASE)
FIELDS = ("name", "value", "dataset")


@dataclass(frozen=True)
class CardDetails:
    """What a card says that the head itself does not know.

    Args:
        license: as the Hub names licenses: ``"mit"``.
        base_model: the generator's own repository on the Hub.
        task: as the Hub names tasks.
        tags: more tags.
        metrics: what was measured: ``{"name": "frechet[LeNet f6]", "value": 7.5, "dataset": "MNIST", "base": 97.7}``.
    """

    license: str | None = None
    base_model: str | None = None
    task: str = "image-to-image"
    tags: Sequence[str] = ()
    metrics: Sequence[Mapping[str, Any]] = ()


def card(
    config: Mapping[str, Any], repo_id: str, details: CardDetails | None = None, *, pictures: Sequence[str] = ()
) -> str:
    """The README.md of a head, YAML and text.

    Args:
        config: the head's.
        details: what else is known of it.
        pictures: names of picture files beside it.
    """
    details = details or CardDetails()
    name = repo_id.rsplit("/", 1)[-1]
    method = _method(config)
    data = _metadata(config, name, method, details)
    G, D = (_class(config.get(who)) for who in ("generator", "discriminator"))
    lines = [
        f"# {name}",
        "",
        f"A feedback head ({method.upper()}) for `{G}`: at test time its discriminator corrects it; G's weights "
        "stay as they are. Made with fbwrap.",
        "",
        "```python",
        "import fbwrap",
        "",
        *_use(config, repo_id, G, D),
        "```",
        "",
        *_links(config),
    ]
    if (latents := config.get("latents")) is not None:
        lines += ["", f"Latents: `{plain(in_words(latents))}` (how G's inputs are distributed)."]
    lines += ["", f"Steps T = {config.get('steps', 1)}, strength α = {config.get('strength', 1.0)}.", ""]
    lines += [*_verdict(config.get("trained_on") or {}), *_measured(details.metrics)]
    lines += [f"![{plain(picture)}]({quote(picture)})\n" for picture in pictures]
    lines += _trained(config.get("trained_on") or {})
    cited = (config.get("adapter") or {}).get("citations")
    if isinstance(cited, list) and cited:
        lines += [f"The networks are known from: {'; '.join(map(plain, cited))}.", ""]
    return f"---\n{data}\n---\n\n" + "\n".join(lines)


def _method(config: Mapping[str, Any]) -> str:
    """The paper whose modules a head has: "afl" or "fal"."""
    kinds = {str(link["module"].get("kind")) for link in config["links"]}
    return "fal" if kinds and kinds <= {"ast", "film", "concat", "add"} else "afl"


def _metadata(config: Mapping[str, Any], name: str, method: str, details: CardDetails) -> str:
    """What the Hub reads, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    adapter = config.get("adapter") or {}
    known = {plain(adapter.get(who) or "").partition(":")[0] for who in ("generator", "discriminator")} - {""}
    results = [
        EvalResult(
            task_type=details.task,
            dataset_type=str(row["dataset"]).lower().replace(" ", "-"),
            dataset_name=str(row["dataset"]),
            metric_type=str(row["name"]).split("[")[0],
            metric_name=str(row["name"]),
            metric_value=float(row["value"]),
        )
        for row in details.metrics
    ]
    more: dict[str, Any] = {"eval_results": results, "model_name": name} if results else {}
    data = ModelCardData(
        library_name="fbwrap",
        license=details.license,
        base_model=details.base_model,
        tags=["fbwrap", method, *sorted(known), *details.tags],
        pipeline_tag=details.task,
        **more,
    )
    return str(data.to_yaml())


def _links(config: Mapping[str, Any]) -> Iterator[str]:
    for link in config["links"]:
        sources = " + ".join(str(source) for source in link.get("sources", []))
        yield f"- {plain(link['target'])} ← {plain(link['module'].get('kind'))} ← {plain(sources)}"


def _measured(metrics: Sequence[Mapping[str, object]]) -> list[str]:
    if not metrics:
        return []
    keys = ("name", "dataset", "base", "value")
    rows = ["| " + " | ".join(plain(row.get(key, "")) for key in keys) + " |" for row in metrics]
    return ["| measure | data | without | with |", "| --- | --- | --- | --- |", *rows, ""]


def _verdict(trained: Mapping[str, object]) -> list[str]:
    """What ``fbwrap.fit`` says of the head, if it made it."""
    verdict, why = trained.get("verdict"), trained.get("why")
    if not isinstance(verdict, str) or not isinstance(why, str):
        return []
    return [f"Verdict of `fbwrap fit`: **{plain(verdict)}**. {plain(why)}", ""]


def _trained(trained: Mapping[str, object]) -> list[str]:
    """What is known of the training; nothing where nothing is."""
    if not trained:
        return []
    apart = ("options", "generator", "held_out", "verdict", "why")
    listed = [f"{plain(key)} {plain(value)}" for key, value in trained.items() if key not in apart]
    lines = [f"Trained: {', '.join(listed)}.", ""]
    held_out = trained.get("held_out")
    if isinstance(held_out, Mapping) and all(isinstance(each, float) for each in held_out.values()) and held_out:
        ratios = ", ".join(f"{plain(share)}: {ratio:.3f}" for share, ratio in held_out.items())
        lines += [
            "Distance to held-out data over that without feedback, in untrained features, by share of the strength "
            f"in training: {ratios}.",
            "",
        ]
    if trained.get("generator") == GENERATOR:
        lines += [f"G's weights, which the head is for: `{GENERATOR}` (`fbwrap.load_weights(G, file)`).", ""]
    return lines


def _use(config: Mapping[str, Any], repo_id: str, G: str | None, D: str | None) -> list[str]:
    """How it is loaded, by itself where its base can be fetched, and called."""
    asked = "".join(f", {each}" for each in _asked(config))
    wanted = D is not None and not config.get("critic_spec")
    lines = [f"# D: a {D}; the head holds its weights"] if wanted else []
    if config.get("base"):
        lines += [f'loop = fbwrap.load_pretrained("{repo_id}"{", D" if wanted else ""}{asked})']
    else:
        lines = [f"# G: your {G} with the weights that this head was trained for" + (f"; D: a {D}" if wanted else "")]
        lines += [f'loop = fbwrap.from_pretrained("{repo_id}", G{", D" if wanted else ""}{asked})']
    inputs = code_of_example(config.get("example"), latents=config.get("latents"))
    if inputs:
        return ["import torch", *lines, f"y = loop({inputs})  # takes and returns what G does"]
    return [*lines, "y = loop(x)  # takes and returns what G does"]


def plain(text: object) -> str:
    """Text from a config or from elsewhere as words on one line: no fence, no table, no HTML, no link of its own, also
    none that a site makes of a bare address (``https://…``, ``www.…``, ``name@place``)."""
    words = str(text).translate(dict.fromkeys(map(ord, "`<>|!"), " ")).replace("](", "] (")
    words = _ADDRESS.sub(lambda found: f"{found[0][:-1]} {found[0][-1]}", words).replace("@", " at ")
    return " ".join(words.split())[:200]


def _class(facts: Any) -> str | None:
    """A network's class, if it is a name."""
    if not facts:
        return None
    name = str(facts.get("class"))
    return name if name.isidentifier() else "network"


def _asked(config: Mapping[str, Any]) -> list[str]:
    """What the one who loads it must pass too, for a head cannot store functions and classes."""
    found = []
    if config.get("critic_input", "output") is None:
        found.append("critic_input=your_function")
    if config.get("own_response"):
        found.append("response=your_function")
    own = [str(link["module"].get("kind")) for link in config["links"] if link.get("own_module")]
    if named := [name for name in own if name.isidentifier()]:
        found.append("modules={" + ", ".join(f'"{name}": YourClass' for name in named) + "}")
    return found
