"""How commands end."""

import pytest

from desdis.errors import UserError, command


def ending_with(raised: BaseException | None):
    @command
    def main(arguments: list[str] | None = None) -> int:
        if raised is not None:
            raise raised
        return len(arguments or [])

    return main


def test_a_command_returns_its_own_status():
    assert ending_with(None)(["a", "b", "c"]) == 3
    assert ending_with(None)() == 0


def test_a_mistake_is_one_line_and_status_2(capsys):
    assert ending_with(UserError("no folder \udcff: give another"))() == 2
    assert capsys.readouterr().err == "error: no folder \\udcff: give another\n"


def test_an_interruption_is_status_130(capsys):
    assert ending_with(KeyboardInterrupt())() == 130
    assert "same command again" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        ending_with(ZeroDivisionError())()
