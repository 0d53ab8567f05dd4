"""Made-up results of two subjects, of the size and shape that a small real run has."""

from __future__ import annotations

import numpy as np

from brain_tuning.report import Curve, FlatMap, ReportContext

#: region -> (centre on the left flat map, voxels in each hemisphere, ceiling, untuned r)
REGIONS = {
    "auditory": ((0.0, 0.0), 48, 0.62, 0.34),
    "phonetic-belt": ((-1.5, -0.8), 40, 0.55, 0.27),
    "semantic-temporal": ((-0.4, -2.6), 60, 0.50, 0.19),
    "semantic-angular": ((2.9, 0.9), 40, 0.46, 0.15),
    "semantic-inferior-frontal": ((-3.6, 1.1), 40, 0.44, 0.13),
    "motor-mouth": ((-1.2, 2.6), 32, 0.38, 0.08),
    "word-rate": ((1.6, -2.0), 20, 0.48, 0.21),
    "noise": ((2.6, 3.2), 70, 0.02, 0.0),
}
MODELS = {"untuned": 0.0, "tuned-all": 0.55, "tuned-AC": 1.0}
N_NAN = 9


def flat_map(subject: str, seed: int) -> FlatMap:
    rng = np.random.default_rng(seed)
    positions, hemisphere, region, base, gain = [], [], [], [], []
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for name, (centre, n, _, r) in REGIONS.items():
            radius = 0.2 * np.sqrt(np.arange(n) + 0.5)
            angle = np.arange(n) * np.pi * (3 - np.sqrt(5))
            disc = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
            positions.append((np.asarray(centre) + disc) * [sign, 1.0])
            hemisphere += [side] * n
            region += [name] * n
            base.append(rng.normal(r, 0.055, n))
            gain.append(rng.normal(0.1 * r / 0.34 - 0.01 * (name == "word-rate"), 0.025, n))
    untuned = np.concatenate(base)
    tuned = np.concatenate(gain)
    values = {
        m: untuned + share * tuned + rng.normal(0, 0.008, untuned.size) * (share > 0) for m, share in MODELS.items()
    }
    for r in values.values():
        r[-N_NAN:] = np.nan
    return FlatMap(subject, np.concatenate(positions), hemisphere, region, values)


def result_rows(flat: FlatMap) -> list[dict]:
    rows = []
    for name, (_, _, ceiling, _) in REGIONS.items():
        inside = np.asarray(flat.region) == name
        for model, values in flat.values.items():
            r = float(np.nanmean(values[inside]))
            known = name != "noise"
            rows.append(
                {
                    "subject": flat.subject,
                    "region": name,
                    "model": model,
                    "r": r,
                    "r_normalised": r / ceiling if known else None,
                    "ceiling": ceiling if known else None,
                    "truth": ceiling + 0.012,
                    "n_voxels": int(np.isfinite(values[inside]).sum()),
                }
            )
    return rows


def curve(label: str, seed: int, n_steps: int = 400) -> Curve:
    rng = np.random.default_rng(seed)
    steps = np.arange(1, n_steps + 1)
    loss = -0.24 + 0.2 * np.exp(-steps / 90) + rng.normal(0, 0.03, n_steps)
    best = rng.uniform(0.19, 0.25)
    validation = [
        (int(s), float(best + rng.normal(0, 0.002) - 0.09 * np.exp(-s / 120) - 0.00007 * max(0, s - 250)))
        for s in steps[49::50]
    ]
    return Curve(label, steps.tolist(), loss.tolist(), validation)


def context() -> ReportContext:
    maps = [flat_map("s1", 1), flat_map("s2", 2)]
    return ReportContext(
        title="Brain-tuned WavLM, two subjects",
        subtitle="Two adapters a subject, all cortex and auditory cortex, beside the untuned encoder",
        warnings=["Simulated data: the brain responses were not recorded. These numbers say nothing about any brain."],
        curves=[
            curve(f"{m.subject} {model}", k)
            for k, (m, model) in enumerate((m, t) for m in maps for t in ("tuned-all", "tuned-AC"))
        ],
        rows=[row for m in maps for row in result_rows(m)],
        maps=maps,
        facts={
            "Corpus": "brain-tuning/simulated-stories",
            "Backbone": "microsoft/wavlm-base-plus",
            "Training stories": 12,
            "Held-out stories": "avatar, legacy",
            "Seed": 20240,
            "Seconds of tuning": 1284.25,
            "torch": "2.13.0",
            "transformers": "5.23.0",
        },
        ledger=[
            {"subject": "s1", "ok": 691, "nan": 4, "constant": 3, "excluded": 2},
            {"subject": "s2", "ok": 690, "nan": 5, "constant": 5, "excluded": 0},
        ],
    )
