"""The log: one line for each thing said, in one format, without secrets, whatever texts it has to show."""

import json
import logging
import re
import secrets
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.logs import GRPC_LOGGER, REDACTED, SHORTEST_SECRET, VANISHED, Redaction, about, escaped
from swarmd.observing.subject import BATCH, SWARM

EVIL = "\x1b[31m\r\n2026-01-01 [info     ] forged\x00\u202e\u2028\x85 end"


def said(script: str, *, log_format: str = "json", level: str = "info", **environment: str) -> list[str]:
    """The lines that a process writes which sets the log up and runs this."""
    program = textwrap.dedent(script)
    setup = f"from swarmd.logs import configure_logging\nconfigure_logging({log_format!r}, {level!r})\n"
    head = "import logging, warnings, structlog\nlog = structlog.get_logger('test')\n"
    done = subprocess.run(
        [sys.executable, "-c", head + setup + program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin", "PYTHONUTF8": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr.split("\n")[:-1]


def objects(script: str, **options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said(script, **options)]


# -- one line each -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_text_makes_up_a_line_or_plays_with_the_terminal(log_format):
    lines = said(
        f"""
        evil = {EVIL!r}
        log.info(evil)
        log.info("value", value=evil, many=[evil], table={{evil: evil}}, raw=evil.encode("utf-16", "replace"))
        logging.getLogger("x").error("said %s", evil)
        logging.getLogger("swarmd.x").error("with extra", extra={{"more": evil}})
        """,
        log_format=log_format,
    )
    assert len(lines) == 4
    for line in lines:
        assert re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u202e]", line) is None
    assert sum("forged" in line for line in lines) == 3


def test_a_traceback_on_the_console_is_set_off_so_that_no_error_makes_up_a_line():
    lines = said(
        f"""
        try:
            raise ValueError({EVIL!r})
        except ValueError:
            log.exception("failed")
            logging.getLogger("x").exception("failed too")
        """,
        log_format="console",
    )
    begun = [line for line in lines if not line.startswith("    ")]
    assert ["failed" in line for line in begun] == [True, True]
    assert any("forged" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_a_traceback_in_json_is_part_of_its_line_and_tells_no_values():
    (line,) = objects(
        """
        def fail(password):
            local = "my-local-secret"
            raise ValueError("oops")
        try:
            fail("my-argument-secret")
        except ValueError as error:
            log.error("failed", exc_info=error)
        """
    )
    assert "ValueError: oops" in line["exception"]
    assert line["exception"].startswith("Traceback")
    assert "my-argument" not in line["exception"].replace('fail("my-argument-secret")', "")


# -- one format --------------------------------------------------------------------------------------------------------


def test_loggers_of_others_look_the_same():
    lines = objects(
        """
        log.info("ours", answer=42)
        logging.getLogger("swarmd.journal").info("of %d", 7)
        logging.getLogger("swarmd.journal").debug("too quiet")
        logging.getLogger("grpc._cython").warning("theirs")
        logging.getLogger("asyncio").info("too quiet, for it is not ours")
        warnings.warn("be warned")
        """
    )
    assert [(line["event"].splitlines()[0], line["level"]) for line in lines[:3]] == [
        ("ours", "info"),
        ("of 7", "info"),
        ("theirs", "warning"),
    ]
    assert "be warned" in lines[3]["event"]
    assert len(lines) == 4
    assert (lines[0]["answer"], lines[2]["logger"]) == (42, "grpc._cython")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["timestamp"]) for line in lines)


@pytest.mark.parametrize(("level", "wanted"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_holds_for_both_kinds(level, wanted):
    words = ["debug", "info", "warning", "error"]
    script = "\n".join(f"log.{word}('a'); logging.getLogger('swarmd').{word}('b')" for word in words)
    assert len(said(script, level=level)) == 2 * wanted


def test_a_log_that_cannot_be_written_stops_nothing():
    assert said("import os; os.close(2); log.error('gone'); logging.error('gone too'); os._exit(0)") == []


def test_lines_say_what_the_work_is_about():
    line = about(None, "info", {"event": "x"})
    assert line == {"event": "x"}
    swarm, batch = SWARM.set("s"), BATCH.set("s-1")
    try:
        assert about(None, "info", {"event": "x"}) == {"event": "x", "swarm": "s", "batch": "s-1"}
        assert about(None, "info", {"event": "x", "swarm": "other"})["swarm"] == "other"
    finally:
        SWARM.reset(swarm)
        BATCH.reset(batch)


def test_the_latest_lines_are_kept_without_colours_and_not_more():
    (line,) = objects(
        """
        import sys
        sys.stderr.isatty = lambda: True
        configure_logging("console", "info")
        logging.disable()
        from swarmd import logs
        kept = structlog.get_logger("again")
        for number in range(logs.KEPT_LINES + 10):
            logs.keep(None, "info", f"\\x1b[31mline {number}\\x1b[0m")
        logs.keep(None, "info", "x" * 100_000)
        lines = logs.recent_lines()
        import json
        told = {"count": len(lines), "first": lines[0], "last": len(lines[-1])}
        sys.stderr.write(json.dumps(told) + "\\n")
        """
    )
    assert line == {"count": 500, "first": "line 11", "last": 4096 + len(" ...")}


# -- no secrets --------------------------------------------------------------------------------------------------------

SECRET = "s3cret-value-of-the-variable"

SHOWN = [
    ("authorization: Bearer {}", "authorization: Bearer " + REDACTED),
    ("Authorization: bearer   {}, next", "Authorization: bearer " + REDACTED + ", next"),
    ("(('authorization', 'Bearer {}'), ('x', 'y'))", "(('authorization', 'Bearer " + REDACTED + "'), ('x', 'y'))"),
    ('{{"authorization": "{}"}}', '{{"authorization": "' + REDACTED + '"}}'),
    ("authorization={} and more", "authorization=" + REDACTED + " and more"),
]


@pytest.mark.parametrize(("text", "wanted"), SHOWN)
@pytest.mark.parametrize("token", ["abc", "a.b-c_d~e+f/g==", "x" * 500])
def test_what_is_sent_as_a_token_is_not_shown(text, wanted, token):
    assert Redaction().text(text.format(token)) == wanted.format()


@given(st.binary(min_size=32, max_size=32), st.text(alphabet=" :=\"'/,()\n", max_size=3))
def test_our_own_tokens_are_not_shown_wherever_they_stand(entropy, around):
    import base64

    token = base64.urlsafe_b64encode(entropy).rstrip(b"=").decode()
    if token.lower() == token or token.upper() == token:  # one in 10 ** 9
        return
    assert token not in Redaction().text(f"see {around}{token}{around} there")


def test_tokens_as_the_daemon_makes_them_are_of_that_form():
    from swarmd.tokens import TOKEN_BYTES

    for _ in range(100):
        token = secrets.token_urlsafe(TOKEN_BYTES)
        assert Redaction().text(token) == REDACTED


@pytest.mark.parametrize(
    "text",
    [
        "swarm study-c83fd5",
        "a" * 43,
        "A" * 43,
        "batch s-4f2a-17",
        "https://example.org/" + "aB3" * 20,
        "bearer of news",
    ],
)
def test_what_is_no_token_stays(text):
    shown = Redaction().text(text)
    assert shown == text or text == "bearer of news"


def test_the_value_of_the_variable_is_not_shown_in_any_way():
    lines = said(
        f"""
        secret = {SECRET!r}
        deep = {{"a": {{"b": (secret,)}}}}
        log.info(f"event {{secret}}", plain=secret, many=[secret], deep=deep, raw=secret.encode())
        log.info("by name", token="short", authorization="x", Password="y", headers={{"cookie": "z"}})
        logging.getLogger("grpc").error("said %s", secret)
        try:
            raise ValueError(f"with {{secret}}")
        except ValueError:
            log.exception("failed")
        """,
        SWARMD_TOKEN=SECRET,
    )
    text = "\n".join(lines)
    assert SECRET not in text
    assert len(lines) == 4
    by_name = json.loads(lines[1])
    assert (by_name["token"], by_name["authorization"], by_name["Password"]) == (REDACTED,) * 3
    assert by_name["headers"] == {"cookie": REDACTED}


def test_a_short_value_of_the_variable_does_not_make_the_log_unreadable():
    assert Redaction("a" * (SHORTEST_SECRET - 1)).text("banana" * 3) == "banana" * 3
    assert Redaction("").text("banana") == "banana"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.binary(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_whatever_is_logged_can_be_shown(value):
    event: dict[str, Any] = {"event": "x", "value": value}
    shown = escaped(None, "info", Redaction("a secret value")(None, "info", event))
    assert json.dumps(shown, default=repr)


def test_nothing_of_this_holds_for_the_loggers_of_this_process():
    assert not any(type(each.formatter).__module__.startswith("structlog") for each in logging.getLogger().handlers)


def test_clients_that_vanish_fill_no_log():
    lines = objects(
        f"""
        class {VANISHED}(Exception): pass
        for error in ({VANISHED}("gone"), ValueError("a bug")):
            try:
                raise error
            except Exception:
                logging.getLogger({GRPC_LOGGER!r}).exception("raised by servicer method")
        """
    )
    assert [line["exception"].splitlines()[-1] for line in lines] == ["ValueError: a bug"]


def test_the_error_of_a_vanished_client_is_called_so_by_grpc():
    from grpc._cython import cygrpc

    assert getattr(cygrpc, VANISHED).__mro__[1:] != ()
    assert cygrpc.__name__ == GRPC_LOGGER
