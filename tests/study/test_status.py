"""How far a study is, from its records and the logs of its runs."""

import json

from spot.study.cells import Done
from spot.study.status import KindStatus, study_status


def test_the_status_counts_by_kind_and_shows_what_has_begun(planned, worker, own_cache):
    made = planned('strategies=["best"]')
    worker.diverged.add(("source", "red", 1))
    worker.broken["pair", "pink"] = Done(reason="no rows here")
    worker.run(made)
    begun = next(
        item.gang
        for item in worker.items
        if item.gang.cells[0].kind == "pair"
        and item.gang.cells[0].task == "pink"
        and item.gang.cells[0].sources == ("green",)
    )
    folder = own_cache / "studies" / "runs" / begun.digest
    folder.mkdir(parents=True)
    lines = [{"step": step, "score": 50.0} for step in (0, 2, 4)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    status = study_status(made)
    assert status.kinds["source"] == KindStatus(6, 5, 1, 0, 0)
    assert status.kinds["plain"] == KindStatus(4, 4, 0, 0, 0)
    assert status.kinds["pair"] == KindStatus(10, 3, 2, 2, 3)
    [one] = status.running
    assert (one.title, one.step, one.steps) == ("pair green -> pink, seeds 0, 1", 4, 8) and 0 <= one.idle < 60
