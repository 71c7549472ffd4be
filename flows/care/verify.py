"""Verification as a command: bytes, then repair and physics where they are asked for."""

import contextlib
import json
from collections.abc import Iterator

from flows.json_values import to_json
from flows.progress import Meter
from storage.claims import claim_store
from storage.errors import RequestError
from storage.layout import HEADER, SEAL
from storage.manifest import MANIFESTS
from storage.objects import Location, has_object
from storage.verify import Damage, Findings, count_files, find_damage


def verify_store(store: Location, repair: bool, molecules: int, as_json: bool) -> bool:
    """Print what was found; returns whether all is well in the end. `molecules` samples are computed again.

    Raises RequestError where there is no store.
    """
    if not any(has_object(store, key) for key in (HEADER, SEAL, *MANIFESTS)):
        raise RequestError(f"{store} is no rhoflow store (it has no {HEADER}): check the path")
    with claim_store(store) if repair else contextlib.nullcontext():
        with Meter("checksums", count_files(store), unit="files") as meter:
            findings = find_damage(store, meter.advance)
        report, lines = {"verified": to_json(findings)}, list(describe_findings(store, findings))
        sound = not findings.damages
        if repair and not sound:
            from flows.care.repair import LOST, describe_mendings, repair_store

            mendings = repair_store(store, findings)
            report["mended"] = to_json(mendings)
            lines += describe_mendings(mendings)
            strangers = any(damage.fault == "unexpected" for damage in findings.damages)
            sound = not strangers and all(mending.end != LOST for mending in mendings)
    if molecules and sound:
        from flows.care.recompute import describe_recomputations, recompute_samples

        recomputed = list(recompute_samples(store, molecules))
        report["recomputed"] = to_json(recomputed)
        lines += describe_recomputations(recomputed)
        sound = all(sample.is_sound for sample in recomputed)
    elif molecules:
        lines.append("  nothing is computed again before the bytes are right: repair the store first")
    print(json.dumps({**report, "sound": sound}, allow_nan=False) if as_json else "\n".join(lines))
    return sound


def describe_findings(store: Location, findings: Findings) -> Iterator[str]:
    """In lines: each damaged file with its shard, samples and remedy."""
    state = "sealed" if findings.sealed else "not sealed"
    yield f"{store}: {state}, {findings.checked} files checked, {len(findings.damages)} not as they were written"
    if findings.unvouched:
        yield f"  {findings.unvouched}"
    for damage in findings.damages:
        yield f"  {damage.fault} {damage.key}{_name_samples(damage)}: {_name_remedy(store, damage)}"
    if findings.leftovers:
        yield f"  {len(findings.leftovers)} leftovers of killed writers, harmless ({findings.leftovers[0]} …)"


def _name_samples(damage: Damage) -> str:
    if damage.shard is None:
        return ""
    return f" (shard {damage.shard}: {', '.join(damage.samples) or 'what says its samples is damaged too'})"


def _name_remedy(store: Location, damage: Damage) -> str:
    if damage.fault == "unexpected":
        return "it is no part of the dataset, move it elsewhere"
    return f"`rhoflow verify {store} --repair`"
