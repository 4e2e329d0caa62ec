"""The campaign over files of rows sees rows that are lost without a word."""

from tests.campaigns import rows


def test_the_campaign_sees_rows_that_are_lost(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "zq0q a", "label": "good"}\n{"text": "zq1q b", "label": "bad"}\n')
    assert rows.look(tmp_path, tmp_path / "rows.jsonl", {"zq0q": "first", "zq1q": "second"}) == []
    (tmp_path / "new.toml").unlink()
    lost = rows.look(tmp_path, tmp_path / "rows.jsonl", {"zq7q": "a line that the file lacks"})
    assert [words.partition(":")[0] for words in lost] == ["init", "own", "predict"]
    assert rows.rows_by_the_eye('text,label\nzq0q a,good\n"zq1q b",bad\nzq2q a, b,bad\n') == {
        "zq0q": "zq0q a,good",
        "zq1q": '"zq1q b",bad',
    }
