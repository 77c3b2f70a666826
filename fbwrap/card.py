"""The model card of a head on the Hub: what it is for, how it is used, what was measured.

Example:
    >>> text = card({"links": [], "trained_on": {}, "generator": {"class": "Generator"}}, "me/head", license="mit")
    >>> text.splitlines()[0], "license: mit" in text, 'from_pretrained("me/head"' in text
    ('---', True, True)
"""

from collections.abc import Mapping, Sequence
from typing import Any

FIELDS = ("name", "value", "dataset")


def card(
    config: Mapping[str, Any],
    repo_id: str,
    *,
    license: str | None = None,
    base_model: str | None = None,
    task: str = "image-to-image",
    tags: Sequence[str] = (),
    metrics: Sequence[Mapping[str, Any]] = (),
    pictures: Sequence[str] = (),
) -> str:
    """The README.md of a head, YAML and text.

    Args:
        config: the head's.
        metrics: what was measured: ``{"name": "frechet[LeNet f6]", "value": 7.5, "dataset": "MNIST", "base": 97.7}``.
        pictures: names of picture files beside it.
    """
    from huggingface_hub import EvalResult, ModelCardData

    kinds = {str(link["module"].get("kind")) for link in config["links"]}
    method = "fal" if kinds and kinds <= {"ast", "film", "concat", "add"} else "afl"
    adapter = config.get("adapter") or {}
    known = {str(adapter.get(who) or "").partition(":")[0] for who in ("generator", "discriminator")} - {""}
    more: dict[str, Any] = {}
    results = [
        EvalResult(
            task_type=task,
            dataset_type=str(row["dataset"]).lower().replace(" ", "-"),
            dataset_name=str(row["dataset"]),
            metric_type=str(row["name"]).split("[")[0],
            metric_name=str(row["name"]),
            metric_value=row["value"],
        )
        for row in metrics
    ]
    name = repo_id.rsplit("/", 1)[-1]
    if results:
        more = {"eval_results": results, "model_name": name}
    data = ModelCardData(
        library_name="fbwrap",
        license=license,
        base_model=base_model,
        tags=["fbwrap", method, *sorted(known), *tags],
        pipeline_tag=task,
        **more,
    )
    G = config["generator"]["class"]
    D = (config.get("discriminator") or {}).get("class")
    critic = ", D" if D else ""
    lines = [
        f"# {name}",
        "",
        f"A feedback head ({method.upper()}) for `{G}`: at test time its discriminator corrects it; G's weights "
        "stay as they are. Made with fbwrap.",
        "",
        "```python",
        "import fbwrap",
        "",
        f"# G: your {G} with the weights that this head was trained for" + (f"; D: a {D}" if D else ""),
        f'loop = fbwrap.from_pretrained("{repo_id}", G{critic})',
        "y = loop(x)  # takes and returns what G does",
        "```",
        "",
    ]
    for link in config["links"]:
        sources = " + ".join(str(source) for source in link.get("sources", []))
        lines.append(f"- `{link['target']}` ← {link['module'].get('kind')} ← {sources}")
    lines += ["", f"Steps T = {config.get('steps', 1)}, strength α = {config.get('strength', 1.0)}.", ""]
    if metrics:
        lines += ["| measure | data | without | with |", "| --- | --- | --- | --- |"]
        lines += [f"| {row['name']} | {row['dataset']} | {row.get('base', '')} | {row['value']} |" for row in metrics]
        lines.append("")
    lines += [f"![{picture}]({picture})\n" for picture in pictures]
    if trained := config.get("trained_on"):
        told = {key: value for key, value in trained.items() if key != "options"}
        lines += ["Trained: " + ", ".join(f"{key} {value}" for key, value in told.items()) + ".", ""]
    if cited := adapter.get("citations"):
        lines += ["The networks are known from: " + "; ".join(map(str, cited)) + ".", ""]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines)
