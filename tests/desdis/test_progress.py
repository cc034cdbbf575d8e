"""What a person sees of a training on a terminal."""

import pytest

from desdis.progress import Progress


def test_the_bar_stays_on_an_ordinary_terminal_and_gives_it_back(monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    values = dict.fromkeys([f"value_number_{k}" for k in range(9)], 0.123456789)
    with pytest.raises(KeyboardInterrupt), Progress(20, 0) as progress:
        progress.say(5, {"loss": 0.5, **values})
        progress.step(5)
        assert progress.bar is not None
        progress.bar.refresh()
        raise KeyboardInterrupt
    out, err = capfd.readouterr()
    assert not out and "5/20" in err and "loss 0.5" in err and "value_number" not in err
    assert err.rindex("\x1b[?25h") > err.rindex("\x1b[?25l")  # the cursor is shown again
