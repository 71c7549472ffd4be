"""What became of every source row: parts, plan and receipts read together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from storage.layout import conformers_key
from storage.objects import Location, has_object
from storage.parts import read_conformer_part
from storage.plan import Plan
from storage.receipts import Outcome, has_receipt, read_receipt
from storage.schema import Label

MISSING = "missing"


@dataclass(frozen=True)
class RowOutcome:
    """One source row's end. Several conformers: `ok` when all have ended and at least one is ok."""

    row: int
    id: str
    outcome: str  # "ok", a failure's reason, or "missing" while work remains
    message: str = ""
    samples: Sequence[str] = ()  # ids of its samples that are ok; of another row's, where it is a duplicate
    duplicate_of: str = ""  # the sample computed in its place
    failures: Sequence[Outcome] = ()  # of its conformers
    labels: Mapping[str, Label | None] = field(default_factory=dict)


def read_sample_outcomes(store: Location, plan: Plan) -> dict[str, Outcome]:
    """By sample id, of every shard that has a receipt."""
    return {
        outcome.id: outcome
        for shard in plan.shards()
        if has_receipt(store, shard.number)
        for outcome in read_receipt(store, shard.number).outcomes
    }


def read_row_outcomes(store: Location, plan: Plan) -> Iterator[RowOutcome]:
    """One value for each row of the source, in its order. Rows of unwritten parts are left out."""
    outcomes = read_sample_outcomes(store, plan)
    outcomes.update({refusal.id: Outcome(refusal.id, refusal.reason, refusal.message) for refusal in plan.refusals})
    for part in range(plan.parts):
        if not has_object(store, conformers_key(part)):
            continue
        for row in read_conformer_part(store, part):
            if row.outcome != "ok":
                failure = Outcome(row.id, row.outcome, row.message)
                yield RowOutcome(row.row, row.id, row.outcome, row.message, failures=(failure,), labels=row.labels)
                continue
            computed = [plan.duplicates.get(conformer.id, conformer.id) for conformer in row.conformers]
            ends = [outcomes.get(sample, Outcome(sample, MISSING)) for sample in computed]
            failures = [
                Outcome(conformer.id, end.outcome, end.message)
                for conformer, end in zip(row.conformers, ends, strict=True)
                if end.outcome not in ("ok", MISSING)
            ]
            samples = [end.id for end in ends if end.outcome == "ok"]
            outcome, message = _summarise(ends)
            duplicate_of = plan.duplicates.get(row.conformers[0].id, "")
            yield RowOutcome(row.row, row.id, outcome, message, samples, duplicate_of, failures, row.labels)


def _summarise(ends: Sequence[Outcome]) -> tuple[str, str]:
    kinds = [end.outcome for end in ends]
    if MISSING in kinds:
        return MISSING, ""
    if "ok" in kinds:
        return "ok", ""
    return ends[0].outcome, ends[0].message
