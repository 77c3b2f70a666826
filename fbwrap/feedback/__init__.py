"""The papers' feedback loop: features, modules, links, D asked at its taps, the rollout. Knows no files."""
