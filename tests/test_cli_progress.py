"""Bars are drawn on stderr, one for each thing that is being done."""

import time

import pytest

from cliphand.cli.progress import progress_bars


def test_every_thing_has_a_bar_with_its_steps_and_stdout_stays_empty(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as advance:
        for done in range(3):
            advance("reading", done, 2)
        advance("writing", 1, 0)  # nobody knows how many
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split()[0] for line in captured.err.splitlines()] == ["reading", "writing"]
    assert "2/2" in captured.err
    assert "1/?" in captured.err


def test_nothing_is_drawn_before_the_first_word(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars():
        pass
    assert capsys.readouterr().err == ""


def test_a_total_may_change(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as advance:
        advance("reading", 1, 10)
        advance("reading", 2, 4)
    assert "2/4" in capsys.readouterr().err


def test_what_has_passed_is_hidden_until_it_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr("rich.progress.Progress.update", lambda bar, task, **fields: shown.append(fields["visible"]))
    for passing in (True, False):
        with progress_bars(passing=passing) as advance:
            for done in (0, 4, 1):
                advance("parsing", done, 4)
    assert shown == [True, False, True] + [True] * 3


def test_steps_a_second_are_told_in_their_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars(rate="images", clock="remaining") as advance:
        for done in range(1, 6):
            advance("rendering", 100 * done, 1000)
            time.sleep(0.01)
    assert " images/s" in capsys.readouterr().err


def test_a_quiet_bar_has_no_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    monkeypatch.setattr("rich.live._RefreshThread.start", lambda thread: begun.append(thread))
    monkeypatch.setattr("rich.live._RefreshThread.join", lambda thread: None)
    with progress_bars(quiet=True) as advance:
        advance("speed", 1, 2)
    assert begun == []
    with progress_bars() as advance:
        advance("speed", 1, 2)
    assert len(begun) == 1
