"""A results.json as the benchmark writes it, small, with a failure, something left out and names that break out."""

METHODS = ["rootsift", "desdis-32", "<script>window.broken=1</script>"]


def benchmark_result() -> dict:
    def score(values: list[float]) -> dict:
        return {
            "n": 3,
            "mean": sum(values) / 3,
            "std": max(values) - min(values),
            "min": min(values),
            "max": max(values),
        }

    def row(method: str, maa: float, error: float, curve: str, failures: list) -> dict:
        return {
            "method": method,
            "cells": 3,
            "not_run": [2] if failures else [],
            "failures": failures,
            "scores": {"maa_10": score([maa, maa, maa + 0.03]), "median_pose_error_deg": score([error] * 3)},
            "costs": {
                "stages": {"extract": {"seconds": 3.0, "peak_memory_mib": 500.0}},
                "seconds": 3.0 + maa,
                "peak_memory_mib": 500.0,
            },
            "curves": {curve: [maa * k / 10 for k in range(1, 11)]},
        }

    scenes = [
        {
            "name": name,
            "kind": "multiview",
            "primary": "maa_10",
            "score_names": ["maa_10", "median_pose_error_deg"],
            "rows": [
                row(METHODS[0], 0.80, 0.5, "pose_curve", []),
                row(METHODS[1], 0.90, 0.4, "pose_curve", []),
                row(METHODS[2], 0.90, 0.7, "pose_curve", [{"seed": 1, "error": "stopped <b>after</b> 2 minutes"}]),
            ],
        }
        for name in ("wall", "</script><script>window.broken=1</script>")
    ]
    return {
        "format": 1,
        "title": "Two <i>scenes</i>",
        "text": "Are names harmless?",
        "seeds": [0, 1, 2],
        "baseline": "rootsift",
        "methods": METHODS,
        "left_out": [{"what": "method", "name": "aliked", "reason": "there is no aliked-n16.pth"}],
        "scores": {
            "maa_10": {"label": "mAA(10°)", "digits": 3, "failed": 0.0, "higher_is_better": True},
            "median_pose_error_deg": {
                "label": "median error [°]",
                "digits": 3,
                "failed": 180.0,
                "higher_is_better": False,
            },
        },
        "scenes": scenes,
        "overall": {"maa_10": {METHODS[0]: 0.81, METHODS[1]: 0.91, METHODS[2]: None}},
        "differences": [
            {
                "method": METHODS[1],
                "score": "maa_10",
                "scene": scene,
                "n": 6,
                "mean": 0.1,
                "low": 0.05,
                "high": 0.12,
                "larger": 5,
            }
            for scene in (None, scenes[0]["name"], scenes[1]["name"])
        ],
        "eth": [{"scene": "wall", "method": "rootsift", "images": 4, "track_length": None}],
        "notes": ["a note"],
        "about": {"versions": {"python": "3.11"}, "cpu_count": 2, "machine": "x86_64"},
        "recipe": {"recipe": {}, "methods": [{"name": name, "recipe": {"seed": 1}} for name in METHODS]},
    }
